import numpy as np
import pytest
from PIL import Image

from stage1_vqvae.data import survey
from stage1_vqvae.data.originals import Files, OriginalSet, OriginalSplit, Pixels


def split_of(originals, count):
    return OriginalSplit(originals, np.full(count, -1))


def test_headers_are_counted_and_unreadable_files_are_not(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "c.jpg", "d.png", "gone.png")]
    Image.new("RGB", (30, 20)).save(paths[0])
    Image.new("L", (30, 20)).save(paths[1])
    Image.new("RGB", (10, 40)).save(paths[2])
    paths[3].write_bytes(b"no image")
    found = survey.survey(OriginalSet({"train": split_of(Files(paths), 5)}, ()), "test")
    assert found.sizes == {(20, 30): 2, (40, 10): 1}
    assert found.modes == {"RGB": 2, "L": 1}
    assert found.formats == {"PNG": 1, "JPEG": 2}
    assert (found.read, found.total) == (3, 5)


@pytest.mark.parametrize(("limit", "read"), [(100, 12), (3, 6)])
def test_arrays_are_counted_in_both_splits_up_to_a_limit(monkeypatch, limit, read):
    monkeypatch.setattr(survey, "SURVEYED", limit)
    splits = {
        "train": split_of(Pixels(np.zeros((8, 5, 7), np.uint8), "x"), 8),
        "validation": split_of(Pixels(np.zeros((4, 6, 7, 3), np.uint16), "y"), 4),
    }
    found = survey.survey(OriginalSet(splits, ()), "test")
    assert (found.read, found.total) == (read, 12)
    assert set(found.sizes) == {(5, 7), (6, 7)}
    assert set(found.modes) == {"uint8 × 1", "uint16 × 3"}
