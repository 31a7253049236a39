import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.sample_parts import Parts, cover
from pipelines.samples import Samples
from tests.pipelines.training.test_checkpoint_files import files_of_at_most


class Payload:
    def __reduce__(self):
        return os._exit, (9,)


def samples(first, count):
    """Images of which number i is of grey level i."""
    levels = torch.arange(first, first + count)
    images = (levels / 255)[:, None, None, None].expand(-1, 3, 2, 4)
    return Samples(images, levels[:, None] * torch.tensor([1, 10]), levels % 3, torch.zeros(count, 2))


def expected(n):
    levels = np.arange(n)
    images = np.broadcast_to(levels[:, None, None, None], (n, 2, 4, 3)).astype(np.uint8)
    return {"images": images, "labels": levels % 3, "codes": levels[:, None] * np.array([1, 10])}


@given(
    parts=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=6),
    start=st.integers(0, 12),
    count=st.integers(1, 8),
)
def test_cover_holds_the_images_up_to_the_first_gap(parts, start, count):
    parts = sorted(((range(a, a + k), str(i)) for i, (a, k) in enumerate(parts)), key=lambda part: part[0].start)
    held = {image for here, _ in parts for image in here}
    wanted = []
    for image in range(start, start + count):
        if image not in held:
            break
        wanted.append(image)
    named = {name: here for here, name in parts}
    found = [named[name][row] for name, rows in cover(parts, range(start, start + count)) for row in rows]
    assert found == wanted


def test_what_is_missing(tmp_path):
    parts = Parts(tmp_path)
    assert parts.missing(10, 4) == [range(0, 4), range(4, 8), range(8, 10)]
    parts.write(4, samples(4, 4))
    assert parts.missing(10, 4) == [range(0, 4), range(8, 10)]
    assert parts.missing(10, 5) == [range(0, 5), range(5, 10)]
    assert parts.missing(8, 2) == [range(0, 2), range(2, 4)]
    parts.write(0, samples(0, 10))
    assert parts.missing(10, 3) == []


def test_the_whole_is_what_numpy_would_write_and_always_the_same_bytes(tmp_path):
    for name, edges in (("a", [(0, 5), (5, 2)]), ("b", [(0, 3), (2, 3), (5, 2)])):
        for first, count in edges:
            Parts(tmp_path / name).write(first, samples(first, count))
        Parts(tmp_path / name).assemble(7, tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as whole:
        assert set(whole) == {"images", "labels", "codes"}
        for name, array in expected(7).items():
            assert whole[name].dtype == array.dtype
            assert np.array_equal(whole[name], array), name
    assert np.array_equal(Parts(tmp_path / "b").first_images(4), expected(4)["images"])


def test_a_set_of_which_only_some_is_asked_for(tmp_path):
    parts = Parts(tmp_path)
    parts.write(0, samples(0, 9))
    parts.assemble(6, tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as whole:
        assert len(whole["images"]) == len(whole["labels"]) == len(whole["codes"]) == 6


def test_a_full_disk_leaves_the_parts_that_are_there(tmp_path):
    parts = Parts(tmp_path)
    parts.write(0, samples(0, 2))
    before = sorted(tmp_path.iterdir())
    with files_of_at_most(200), pytest.raises(OSError, match="File too large"):
        parts.write(2, samples(2, 5))
    assert sorted(tmp_path.iterdir()) == before
    assert parts.missing(7, 5) == [range(0, 5), range(5, 7)]


def test_a_part_with_a_flipped_bit_or_with_code_is_not_taken(tmp_path):
    Parts(tmp_path).write(0, samples(0, 2))
    (path,) = tmp_path.iterdir()
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"000000002.npz is damaged \(.*CRC.*remove it"):
        Parts(tmp_path).assemble(2, tmp_path / "whole.npz")
    np.savez(path, images=np.array([Payload()], dtype=object))
    with pytest.raises(ValueError, match=r"npz is damaged \(.*allow_pickle"):
        Parts(tmp_path).assemble(1, tmp_path / "whole.npz")
    assert not (tmp_path / "whole.npz").exists()


def test_what_a_killed_writer_left_is_no_part(tmp_path):
    (tmp_path / ".tmp-0123-000000000-000000004.npz").write_bytes(b"half")
    assert Parts(tmp_path).missing(4, 4) == [range(0, 4)]
