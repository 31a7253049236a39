from __future__ import annotations

import io
import pickle
import shutil
import socket
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from pipelines.config.instantiate import build
from stage1_vqvae.data import Augmentation, Folder, Hub, ImageData, ImageSource, ImageSplit, Mnist5k, Parquet
from stage1_vqvae.data.decoding import Trait
from tests.support.tiny import compose

NAMES = ["airplane", "automobile", "bird"]


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (level, 0, 255 - level)).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, levels: list[int]) -> None:
    """Writes a shard in the form that the hub's uoft-cs/cifar10 has."""
    features = datasets.Features(img=datasets.Image(), label=datasets.ClassLabel(names=NAMES))
    rows = {
        "img": [{"bytes": png(level), "path": f"{level}.png"} for level in levels],
        "label": [level % 3 for level in levels],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar"
    folder.mkdir()
    write_parquet(folder / "train-00000-of-00002.parquet", list(range(12)))
    write_parquet(folder / "train-00001-of-00002.parquet", list(range(12, 20)))
    write_parquet(folder / "test-00000-of-00001.parquet", [100, 101])
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Refuses connections and returns those that were tried, also the ones whose failure was swallowed."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        tried.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


def common(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    return {"image_size": [7, 9], "channels": 3, "cache": str(tmp_path / "cache")} | settings


def levels(split: ImageSplit) -> list[int]:
    return split.__getitems__(list(range(len(split))))["images"][:, 0, 0, 0].tolist()


def write_photos(folder: Path, count: int, class_names: tuple[str, ...] = ("",)) -> None:
    for name in class_names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for level in range(count):
            (folder / name / f"{level:03}.png").write_bytes(png(level))


def test_parquet_shards_in_order(shards: Path, tmp_path: Path, no_network: list[Any]) -> None:
    data = Parquet(files=str(shards), **common(tmp_path)).open()
    assert levels(data.train) == list(range(20))
    assert levels(data.validation) == [100, 101]
    assert data.train.labels.tolist() == [level % 3 for level in range(20)]
    assert data.class_names == tuple(NAMES)
    assert (data.image_size, data.channels, data.workers) == ((7, 9), 3, 0)
    assert no_network == []


def test_hub_reads_local_files_the_same_way(shards: Path, tmp_path: Path, no_network: list[Any]) -> None:
    data = Hub(name="uoft-cs/cifar10", files=str(shards), **common(tmp_path)).open()
    parquet = Parquet(files=str(shards), **common(tmp_path)).open()
    assert levels(data.train) == levels(parquet.train)
    assert data.train.description["source"] == "uoft-cs/cifar10"
    assert data.train.description["digest"] == parquet.train.description["digest"]
    assert no_network == []


def test_hub_by_name(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*arguments: Any) -> datasets.DatasetDict:
        asked.append(arguments)
        files = {"train": "train-*", "test": "test-*"}
        parts = {split: sorted(map(str, shards.glob(pattern))) for split, pattern in files.items()}
        cache = str(tmp_path / "hub")
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_parquet(names, cache_dir=cache) for split, names in parts.items()}
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = Hub(name="uoft-cs/cifar10", **common(tmp_path))
    assert levels(source.open().validation) == [100, 101]
    assert source.open().train.description == source.open().train.description
    assert asked[0] == ("uoft-cs/cifar10", None)


def test_hub_without_a_network_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[Any]
) -> None:
    def load_dataset(*_: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match=r"data\.name=a/b cannot be had .*no route.*set data\.files") as caught:
        Hub(name="a/b", **common(tmp_path)).open()
    assert "\n" not in str(caught.value)


def test_broken_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("nothing of the kind")
    with pytest.raises(ValueError, match="cannot be read as parquet") as caught:
        Parquet(files=str(tmp_path), **common(tmp_path)).open()
    assert "\n" not in str(caught.value)


def test_a_folder_of_class_folders(tmp_path: Path, no_network: list[Any]) -> None:
    write_photos(tmp_path / "photos", 10, ("dog", "cat"))
    data = Folder(files=str(tmp_path / "photos"), validation=0.2, **common(tmp_path)).open()
    assert data.class_names == ("cat", "dog")
    assert data.train.class_counts(2)[0] == data.train.class_counts(2)[1]  # the same images in both
    assert sorted(levels(data.train) + levels(data.validation)) == sorted([*range(10), *range(10)])
    assert not set(levels(data.train)) & set(levels(data.validation))
    assert no_network == []


def test_a_flat_folder(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 10)
    data = Folder(files=str(tmp_path / "photos"), **common(tmp_path)).open()
    assert data.class_names == ()
    assert len(data.train) + len(data.validation) == 10
    assert data.train.labels.tolist() == [-1] * len(data.train)


def test_changed_files_are_decoded_again(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    source = Folder(files=str(tmp_path / "photos"), **common(tmp_path))
    before = source.open()
    (tmp_path / "photos" / "001.png").write_bytes(png(200))
    after = source.open()
    assert 200 in levels(after.train) + levels(after.validation)
    assert before.train.description != after.train.description


def test_one_image_is_too_few(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    with pytest.raises(ValueError, match="folder photos: at least two different images are expected"):
        Folder(files=str(tmp_path / "photos"), **common(tmp_path)).open()


def test_a_corrupt_file_is_named_or_left_out(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos" / "001.png").write_bytes(png(1)[:50])
    with pytest.raises(ValueError, match=r"1 of 3 images of folder photos .* allows 0 .*photos/001\.png, .*quarantine"):
        Folder(files=str(tmp_path / "photos"), **common(tmp_path)).open()
    data = Folder(files=str(tmp_path / "photos"), max_bad=0.5, **common(tmp_path)).open()
    assert sorted(levels(data.train) + levels(data.validation)) == [0, 2]
    assert [Path(bad.where).name for bad in data.left_out] == ["001.png"]


def same(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return batch


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_workers_give_the_same_batches(shards: Path, tmp_path: Path, cache_gib: float) -> None:
    source = Parquet(files=str(shards), cache_gib=cache_gib, workers=3, **common(tmp_path))
    data = source.open()
    assert data.workers == (0 if cache_gib else 3)
    loader = DataLoader(data.train, batch_size=8, num_workers=1, collate_fn=same, multiprocessing_context="spawn")
    batches = list(loader)
    images = torch.cat([batch["images"] for batch in batches])  # type: ignore[call-overload]
    assert images[:, 0, 0, 0].tolist() == list(range(20))


def test_what_does_not_stay_in_memory_is_read_by_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Mnist5k(cache=str(tmp_path), workers=3)
    assert source.open().workers == 0
    monkeypatch.setattr("stage1_vqvae.data.sources.base.IN_MEMORY", 4500 * 28 * 28)
    assert source.open().workers == 3


def test_mnist5k(tmp_path: Path) -> None:
    data = Mnist5k(cache=str(tmp_path)).open()
    assert (len(data.train), len(data.validation)) == (4500, 500)
    assert torch.bincount(data.validation.labels).tolist() == [50] * 10
    assert data.class_names == tuple("0123456789")
    pixels = torch.cat([part.__getitems__(list(range(len(part))))["images"] for part in parts(data)])
    assert pixels.shape == (5000, 28, 28, 1)
    assert len({image.numpy().tobytes() for image in pixels}) == 5000
    # MNIST's own statistics: mean 0.1307 and standard deviation 0.3081 of levels in [0, 1].
    np.testing.assert_allclose((pixels / 255).mean(), 0.1307, atol=0.003)
    np.testing.assert_allclose((pixels / 255).std(), 0.3081, atol=0.003)


def parts(data: ImageData) -> tuple[ImageSplit, ImageSplit]:
    return data.train, data.validation


def test_the_cache_serves_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "photos", 4)
    source = Folder(files=str(tmp_path / "photos"), **common(tmp_path))
    first = source.open()
    monkeypatch.setattr(Image, "open", None)
    second = pickle.loads(pickle.dumps(source.open().train))
    assert levels(second) == levels(first.train)
    assert second.description == first.train.description


@pytest.mark.parametrize("option", ["mnist5k", "folder", "parquet", "hub", "numpy"])
def test_every_option_has_a_config_with_all_its_keys(option: str) -> None:
    needed = {
        "folder": ["data.files=x"],
        "parquet": ["data.files=x"],
        "numpy": ["data.files=x"],
        "hub": ["data.name=x"],
    }
    config = compose(f"data={option}", *needed.get(option, []))["data"]
    source = build(config, "data")
    assert isinstance(source, ImageSource)
    assert isinstance(source.augmentation, Augmentation)
    assert set(config) - {"_target_"} == set(source.__dataclass_fields__)


@pytest.mark.parametrize(
    "setting",
    [
        {"image_size": 28},
        {"image_size": [28]},
        {"channels": 5},
        {"validation": 0.0},
        {"validation": 1.0},
        {"cache_gib": -1},
        {"workers": -1},
        {"max_bad": 1.5},
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"data\.{next(iter(setting))}"):
        Mnist5k(**setting)


def write_paths(path: Path, column: list[Any]) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"image": column, "label": [0, 1] * (len(column) // 2)}), path)


@pytest.mark.parametrize("structs", [True, False])
def test_paths_in_parquet_are_relative_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, structs: bool
) -> None:
    names = [f"photos/{level:03}.png" for level in range(6)]
    for shard in ("a", "b"):
        write_photos(tmp_path / shard / "photos", 6)
        rows = [{"bytes": None, "path": name} for name in names] if structs else names
        write_paths(tmp_path / shard / f"{shard}.parquet", rows)
    (tmp_path / "b" / "photos" / "003.png").write_bytes(png(77))
    monkeypatch.chdir("/")
    data = Parquet(files=str(tmp_path), image_column="image", **common(tmp_path)).open()
    assert sorted(levels(data.train) + levels(data.validation)) == sorted([*range(6), 0, 1, 2, 77, 4, 5])


@pytest.mark.parametrize("structs", [True, False])
def test_images_that_parquet_names_are_decoded_again_when_they_change(tmp_path: Path, structs: bool) -> None:
    write_photos(tmp_path, 4)
    names: list[Any] = [f"{level:03}.png" for level in range(4)]
    write_paths(tmp_path / "a.parquet", [{"bytes": None, "path": name} for name in names] if structs else names)
    source = Parquet(files=str(tmp_path / "a.parquet"), image_column="image", **common(tmp_path))
    before = source.open()
    (tmp_path / "002.png").write_bytes(png(200))
    after = source.open()
    assert sorted(levels(before.train) + levels(before.validation)) == [0, 1, 2, 3]
    assert sorted(levels(after.train) + levels(after.validation)) == [0, 1, 3, 200]


def test_a_second_split_that_could_be_held_back_is_listed(tmp_path: Path) -> None:
    for name, levels_of in (("train", [1, 2, 3, 4]), ("test", [5, 6]), ("validation", [7, 8])):
        write_parquet(tmp_path / f"{name}.parquet", levels_of)
    data = Parquet(files=str(tmp_path), **common(tmp_path)).open()
    assert levels(data.validation) == [7, 8]
    assert [(Path(one.where).name, one.reason) for one in data.left_out] == [
        ("test.parquet", "of a second split that is held back")
    ]


@pytest.mark.parametrize("source", [Parquet, Hub])
def test_what_was_saved_to_disk(tmp_path: Path, source: Any) -> None:
    write_parquet(tmp_path / "a.parquet", list(range(12)))
    saved = datasets.Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "hub"))
    datasets.DatasetDict(train=saved.select(range(9)), test=saved.select(range(9, 12))).save_to_disk(tmp_path / "both")
    saved.save_to_disk(tmp_path / "one")
    keys = {"files": str(tmp_path / "both")} | ({"name": "mine"} if source is Hub else {})
    data = source(**keys, **common(tmp_path)).open()
    assert (levels(data.train), levels(data.validation)) == (list(range(9)), [9, 10, 11])
    assert data.class_names == tuple(NAMES)
    saved = datasets.load_from_disk(str(tmp_path / "both"))
    datasets.DatasetDict(**saved, extra=saved["test"].select(range(2))).save_to_disk(tmp_path / "three")
    assert Parquet(files=str(tmp_path / "three"), **common(tmp_path)).open().notes == (
        "the split extra (2 images) is not used",
    )
    one = Hub(name=str(tmp_path / "one"), **common(tmp_path)).open()
    assert one.train.description["source"] == "data set one"  # wherever it lies
    assert sorted(levels(one.train) + levels(one.validation)) == list(range(12))


@pytest.mark.parametrize("form", ["text", "struct"])
def test_files_that_a_saved_data_set_names_are_part_of_it(tmp_path: Path, form: str) -> None:
    names = [f"{level}.png" for level in range(8)]
    for level, name in enumerate(names):
        Image.new("L", (4, 4), level).save(tmp_path / name)
    cells = [str(tmp_path / name) for name in names]
    column = cells if form == "text" else [{"bytes": None, "path": path} for path in cells]
    datasets.Dataset.from_dict({"image": column}).save_to_disk(tmp_path / "saved")
    source = Parquet(files=str(tmp_path / "saved"), **{**common(tmp_path), "image_column": "image"})
    before = source.open()
    assert sorted(levels(before.train) + levels(before.validation)) == list(range(8))
    Image.new("L", (4, 4), 99).save(tmp_path / "3.png")
    after = source.open()
    assert sorted(levels(after.train) + levels(after.validation)) == [0, 1, 2, 4, 5, 6, 7, 99]


def test_one_more_image_moves_no_other(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 100)
    source = Folder(files=str(tmp_path / "photos"), **common(tmp_path))
    before = source.open()
    (tmp_path / "photos" / "000a.png").write_bytes(png(200))
    after = source.open()
    assert 2 <= len(before.validation) <= 20
    assert set(levels(before.train)) <= set(levels(after.train))
    assert set(levels(before.validation)) <= set(levels(after.validation))
    assert before.train.description["digest"] != after.train.description["digest"]


def test_images_are_the_same_wherever_they_lie(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 10)
    shutil.copytree(tmp_path / "photos", tmp_path / "elsewhere" / "photos")
    here, there = (
        Folder(files=str(tmp_path / name), **common(tmp_path)).open() for name in ("photos", "elsewhere/photos")
    )
    assert here.train.description == there.train.description
    assert here.validation.description == there.validation.description


def test_what_a_person_should_know_comes_from_the_cache_too(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(6):
        Image.fromarray(np.full((7, 9), 700 * number, dtype=np.uint16)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "notes.txt").write_text("x")
    source = Folder(files=str(tmp_path / "photos"), **common(tmp_path, channels=1))
    first, again = source.open(), source.open()
    assert (
        first.notes
        == again.notes
        == (
            "images of more than 8 bits a channel: 6; values from 0 to 3500, of which 0 becomes black and 4095 white, "
            "256 levels in all",
        )
    )
    assert sorted(levels(again.train) + levels(again.validation)) == [round(700 * n * 255 / 4095) for n in range(6)]
    assert again.train.description["preprocessing"]["range"] == [0.0, 4095.0]
    streamed = Folder(files=str(tmp_path / "photos"), **common(tmp_path, channels=1, cache_gib=0.0)).open()
    assert levels(streamed.train) == levels(again.train)
    assert (len(again.left_out), again.unreadable) == (1, 0)


def test_frames_are_images_of_their_own_if_asked_for(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        for number in range(8):
            path = tmp_path / "photos" / label / f"{number}.gif"
            path.parent.mkdir(parents=True, exist_ok=True)
            shades = [Image.new("L", (7, 9), 16 * number + 8 * (label == "dog") + frame) for frame in range(3)]
            shades[0].save(path, save_all=True, append_images=shades[1:])
    first = Folder(files=str(tmp_path / "photos"), **common(tmp_path, channels=1)).open()
    assert len(first.train) + len(first.validation) == 16
    assert first.notes == (f"{Trait.FRAMES.value}: 16",)
    source = Folder(files=str(tmp_path / "photos"), frames="all", **common(tmp_path, channels=1, validation=0.3))
    for images in (source.open(), source.open()):  # the second time from the cache
        held, trained = levels(images.validation), levels(images.train)
        assert sorted(held + trained) == [8 * file + frame for file in range(16) for frame in range(3)]
        assert not {level // 8 for level in held} & {level // 8 for level in trained}
        assert held
        assert images.train.labels.tolist() == [level // 8 % 2 for level in trained]
        assert images.notes == ()


def test_the_variance_is_that_of_the_training_pixels(tmp_path: Path) -> None:
    data = Mnist5k(cache=str(tmp_path)).open()
    pixels = data.train.__getitems__(list(range(len(data.train))))["images"].numpy() / 127.5 - 1
    assert data.train.variance == pytest.approx(pixels.var(), rel=1e-6)
    assert data.train.class_counts(10) == [450] * 10
