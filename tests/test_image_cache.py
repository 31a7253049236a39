from __future__ import annotations

import hashlib
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stage1_vqvae.image_cache import ImageCache, MemoryMappedImages, default_cache_folder
from stage1_vqvae.image_preprocessing import Preprocessing
from stage1_vqvae.images import ImageSet, LabelledImages

FORM = Preprocessing(2, 3, 1)
COUNT = 150  # several chunks, the last one short
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 2, 3, 1), dtype=np.uint8)
LABELS = np.arange(COUNT, dtype=np.int64) % 5


class ArrayReader:
    def __init__(self, broken: int | None = None) -> None:
        self.broken = broken

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        if self.broken in rows:
            raise ValueError(f"row {self.broken} is no readable image")
        return PIXELS[rows]


def source(broken: int | None = None) -> ImageSet:
    images = LabelledImages(ArrayReader(broken), LABELS)
    return ImageSet({"train": images}, ("a", "b", "c", "d", "e"))


def never() -> ImageSet:
    raise AssertionError("the source was read again")


def cache(folder: Path, limit_gib: float = 1.0, form: Preprocessing = FORM) -> ImageCache:
    return ImageCache(folder, limit_gib, form)


def caches(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def test_what_comes_out_is_what_went_in(tmp_path: Path) -> None:
    images = cache(tmp_path).open("numbers", {"version": 1}, source)
    rows = np.array([149, 0, 64, 64])
    np.testing.assert_array_equal(images.splits["train"].reader.read(rows), PIXELS[rows])
    np.testing.assert_array_equal(images.splits["train"].labels, LABELS)
    expected = hashlib.sha256(PIXELS[77].tobytes()).digest()
    assert images.splits["train"].digests[77].tobytes() == expected
    assert images.class_names == ("a", "b", "c", "d", "e")


def test_it_is_read_once(tmp_path: Path) -> None:
    first = cache(tmp_path).open("numbers", {"version": 1}, source)
    second = cache(tmp_path).open("numbers", {"version": 1}, never)
    np.testing.assert_array_equal(first.splits["train"].digests, second.splits["train"].digests)
    assert first.class_names == second.class_names


def test_another_source_or_preprocessing_is_another_cache(tmp_path: Path) -> None:
    cache(tmp_path).open("numbers", {"version": 1}, source)
    cache(tmp_path).open("numbers", {"version": 2}, source)
    with pytest.raises(AssertionError, match="read again"):
        cache(tmp_path, form=Preprocessing(2, 3, 3)).open("numbers", {"version": 1}, never)
    assert len(caches(tmp_path)) == 2


def test_a_failure_leaves_no_cache(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 100 is no readable image"):
        cache(tmp_path).open("numbers", {}, lambda: source(broken=100))
    assert caches(tmp_path) == []
    assert isinstance(cache(tmp_path).open("numbers", {}, source).splits["train"].reader, MemoryMappedImages)


def _open_forever(folder: Path) -> None:
    class Hanging(ArrayReader):
        def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
            if 149 in rows:
                (folder / "hanging").touch()
                while True:
                    pass
            return PIXELS[rows]

    cache(folder).open("numbers", {}, lambda: ImageSet({"train": LabelledImages(Hanging(), LABELS)}, ()))


def test_what_a_killed_process_left_is_not_served(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_open_forever, args=(tmp_path,))
    process.start()
    while not (tmp_path / "hanging").exists():
        assert process.is_alive()
    process.kill()
    process.join()
    assert len(caches(tmp_path)) == 1  # the half of it
    images = cache(tmp_path).open("numbers", {}, source)
    np.testing.assert_array_equal(images.splits["train"].reader.read(np.arange(COUNT)), PIXELS)
    assert len(caches(tmp_path)) == 1  # the whole of it


def _open_and_check(folder: Path) -> None:
    images = cache(folder).open("numbers", {}, source)
    assert (images.splits["train"].reader.read(np.arange(COUNT)) == PIXELS).all()


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_open_and_check, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(caches(tmp_path)) == 1


def test_large_sets_are_streamed(tmp_path: Path) -> None:
    for identity in ({"version": 1}, {"version": 2}):
        images = cache(tmp_path, limit_gib=0).open("numbers", identity, source).splits["train"]
        assert isinstance(images.reader, ArrayReader)
        assert len(np.unique(images.digests, axis=0)) == COUNT
    again = cache(tmp_path, limit_gib=0).open("numbers", {"version": 2}, source).splits["train"]
    np.testing.assert_array_equal(again.digests, images.digests)
    assert caches(tmp_path) == []


def test_the_limit_holds_for_what_is_cached_too(tmp_path: Path) -> None:
    cache(tmp_path).open("numbers", {}, source)
    images = cache(tmp_path, limit_gib=0).open("numbers", {}, source)
    assert isinstance(images.splits["train"].reader, ArrayReader)


def test_memory_maps_pickle_as_their_path(tmp_path: Path) -> None:
    reader = cache(tmp_path).open("numbers", {}, source).splits["train"].reader
    reader.read(np.array([0]))
    pickled = pickle.dumps(reader)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).read(np.array([3])), PIXELS[[3]])


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot be written \(.*set data\.cache"):
        cache(tmp_path / "file" / "below").open("numbers", {}, source)


def test_too_little_room_is_known_before_decoding(tmp_path: Path) -> None:
    labels = np.broadcast_to(np.int64(0), (2**50,))
    huge = ImageSet({"train": LabelledImages(ArrayReader(broken=0), labels)}, ())
    with pytest.raises(ValueError, match="GiB free, numbers decodes to"):
        cache(tmp_path, limit_gib=2**40).open("numbers", {}, lambda: huge)


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "vqvae-prior"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache" / "vqvae-prior"
