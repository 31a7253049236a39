from __future__ import annotations

import hashlib
import multiprocessing
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stage1_vqvae.data import decoding_pass
from stage1_vqvae.data.cache import ImageCache, default_cache_folder
from stage1_vqvae.data.originals import LeftOut, Original, OriginalSet, OriginalSplit
from stage1_vqvae.data.preprocessing import Preprocessing
from stage1_vqvae.data.shards import MemoryMappedImages

FORM = Preprocessing(2, 3, 1)
COUNT = 150  # several chunks, the last one short
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 2, 3, 1), dtype=np.uint8)
LABELS = np.arange(COUNT, dtype=np.int64) % 5


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_pass, "SHARD_BYTES", 6 * 70)  # of 70, 70 and 10 images


class Numbers:
    def __init__(self, *broken: int) -> None:
        self.broken = broken

    def fetch(self, rows: NDArray[np.int64]) -> list[Original]:
        return [Original(None if row in self.broken else PIXELS[row], f"row {row}") for row in rows.tolist()]


def source(*broken: int) -> OriginalSet:
    return OriginalSet({"train": OriginalSplit(Numbers(*broken), LABELS)}, ("a", "b", "c", "d", "e"))


def never() -> OriginalSet:
    raise AssertionError("the source was read again")


def cache(folder: Path, limit_gib: float | None = None, form: Preprocessing = FORM, max_bad: float = 0.0) -> ImageCache:
    return ImageCache(folder, limit_gib, form, max_bad)


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


BROKEN = (0, 70, 100)
KEPT = np.delete(np.arange(COUNT), BROKEN)


@pytest.mark.parametrize("limit_gib", [0.0, None])
def test_unreadable_images_are_left_out_and_listed(limit_gib: float | None, tmp_path: Path) -> None:
    for read in (lambda: source(*BROKEN), never if limit_gib is None else lambda: source(*BROKEN)):
        images = cache(tmp_path, limit_gib, max_bad=0.02).open("numbers", {}, read)
        train = images.splits["train"]
        np.testing.assert_array_equal(train.labels, LABELS[KEPT])
        np.testing.assert_array_equal(train.reader.read(np.arange(len(KEPT))), PIXELS[KEPT])
        assert train.digests[69].tobytes() == hashlib.sha256(PIXELS[71].tobytes()).digest()
        assert images.left_out == tuple(LeftOut("train", f"row {row}", "there is no image") for row in BROKEN)


@pytest.mark.parametrize("limit_gib", [0.0, None])
def test_too_many_unreadable_images_are_refused(limit_gib: float | None, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"3 of 150 images of numbers .*data.max_bad=0.01 allows 1 .*row 0"
        ) as caught:
            cache(tmp_path, limit_gib, max_bad=0.01).open("numbers", {}, lambda: source(*BROKEN))
        listed = Path(re.search(r"listed in (\S+),", str(caught.value))[1])  # type: ignore[index]
        assert listed.read_text().splitlines() == [
            "split,path,reason",
            *(f"train,row {n},there is no image" for n in BROKEN),
        ]
    assert len(cache(tmp_path, limit_gib, max_bad=0.02).open("numbers", {}, lambda: source(*BROKEN)).left_out) == 3


def test_a_split_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="150 of 150 images"):
        cache(tmp_path, max_bad=1.0).open("numbers", {}, lambda: source(*range(COUNT)))


class Counting(Numbers):
    """Remembers the rows that were decoded; stops at one."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.decoded: list[int] = []
        self.stop = stop

    def fetch(self, rows: NDArray[np.int64]) -> list[Original]:
        if self.stop in rows.tolist():
            raise KeyboardInterrupt
        self.decoded.extend(rows.tolist())
        return super().fetch(rows)


@pytest.mark.parametrize("limit_gib", [0.0, None])
def test_decoding_that_was_stopped_goes_on_with_the_shards_that_are_missing(
    limit_gib: float | None, tmp_path: Path
) -> None:
    def numbers(reader: Numbers) -> OriginalSet:
        splits = {"validation": OriginalSplit(Numbers(), LABELS), "train": OriginalSplit(reader, LABELS)}
        return OriginalSet(splits, ())

    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path, limit_gib).open("numbers", {}, lambda: numbers(Counting(stop=100)))
    resumed = Counting()
    images = cache(tmp_path, limit_gib).open("numbers", {}, lambda: numbers(resumed))
    # Eight rows are looked at to see whether the set holds more than 8 bits.
    assert sorted(resumed.decoded) == [*range(8), *range(70, COUNT)]
    for split in ("validation", "train"):
        np.testing.assert_array_equal(images.splits[split].reader.read(np.arange(COUNT)), PIXELS)
    assert len(caches(tmp_path)) == 1
    assert list(tmp_path.rglob("facts-*")) == []


def _open_forever(folder: Path) -> None:
    class Hanging(Numbers):
        def fetch(self, rows: NDArray[np.int64]) -> list[Original]:
            if 149 in rows:
                (folder / "hanging").touch()
                while True:
                    pass
            return super().fetch(rows)

    cache(folder).open("numbers", {}, lambda: OriginalSet({"train": OriginalSplit(Hanging(), LABELS)}, ()))


def test_what_a_killed_process_left_is_not_served(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_open_forever, args=(tmp_path,))
    process.start()
    while not (tmp_path / "hanging").exists():
        assert process.is_alive()
    process.kill()
    process.join()
    images = cache(tmp_path).open("numbers", {}, source)
    np.testing.assert_array_equal(images.splits["train"].reader.read(np.arange(COUNT)), PIXELS)
    assert len(caches(tmp_path)) == 1


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
        assert not isinstance(images.reader, MemoryMappedImages)
        np.testing.assert_array_equal(images.reader.read(np.array([149, 3])), PIXELS[[149, 3]])
        assert images.digests[77].tobytes() == hashlib.sha256(PIXELS[77].tobytes()).digest()
    assert list(tmp_path.rglob("*.u8")) == []


def test_the_limit_holds_for_what_is_cached_too(tmp_path: Path) -> None:
    cache(tmp_path).open("numbers", {}, source)
    images = cache(tmp_path, limit_gib=0).open("numbers", {}, source)
    assert not isinstance(images.splits["train"].reader, MemoryMappedImages)


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
    huge = OriginalSet({"train": OriginalSplit(Numbers(), labels)}, ())
    with pytest.raises(ValueError, match="GiB free, numbers needs"):
        cache(tmp_path).open("numbers", {}, lambda: huge)


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "vqvae-prior"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache" / "vqvae-prior"
