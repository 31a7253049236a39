"""What became of a run's images, told from a few bytes of each."""

import io

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from pipelines.training.image_record import ImageRecord, changes
from pipelines.training.images import open_images
from tests.support.tiny import compose


def record(*images, names=("cat", "dog")):
    """Of ``(number, class, whether held out)``; None for no class."""
    numbers, classes, held_out = zip(*images, strict=True)
    labels = [-1 if name is None else names.index(name) for name in classes]
    return ImageRecord(np.array(numbers, np.uint64), np.array(labels, np.int32), np.array(held_out, bool), names)


OLD = [(10, "cat", False), (20, "dog", False), (30, "dog", False), (40, "cat", True)]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ([*OLD, (50, "cat", False), (60, "dog", True)], ["train: 1 new (cat 1)", "validation: 1 new (dog 1)"]),
        (OLD[1:], ["train: 1 gone (cat 1)"]),
        ([(11, "cat", False), *OLD[1:]], ["train: 1 new (cat 1), 1 gone (cat 1)"]),
        ([OLD[1], OLD[0], *OLD[2:]], ["the same ones in another order, as after files were renamed"]),
        ([(10, "cat", False), *OLD], ["train: 1 new (cat 1)"]),  # an exact copy
        ([*OLD[:3], (40, "cat", False)], ["train: 1 from validation (cat 1)"]),
        ([(10, "dog", False), *OLD[1:]], ["train: 1 of another class (dog 1)"]),
        ([*OLD, (50, None, False)], ["train: 1 new"]),
    ],
)
def test_what_became_of_images(new, said):
    assert changes(record(*OLD), record(*new)) == said


def test_classes_go_by_their_names_and_many_are_counted_together():
    names = ("ant", "bee", "cat", "cow", "dog", "eel")
    new = [
        *OLD,
        *((100 + place, name, False) for place, name in enumerate([*names, "cat", "cow", "dog", "eel", "eel"])),
    ]
    said = changes(record(*OLD), record(*new, names=names))
    assert said == ["train: 11 new (eel 3, cat 2, cow 2, dog 2, others 2)"]


def test_a_record_is_small_and_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**63, 5000, dtype=np.uint64)
    whole = ImageRecord(numbers, np.zeros(5000, np.int32), numbers % 10 == 0, ("cat",))
    whole.write(tmp_path / "images.npz")
    assert (tmp_path / "images.npz").stat().st_size < 14 * 5000 + 2000
    back = ImageRecord.read(tmp_path / "images.npz")
    assert changes(whole, back) == ["the same ones in another order, as after files were renamed"]
    assert back.class_names == ("cat",)
    (tmp_path / "images.npz").write_bytes(b"no")
    assert ImageRecord.read(tmp_path / "images.npz") is None
    assert ImageRecord.read(tmp_path / "none.npz") is None


def parquet(folder, images):
    """A parquet file of grey values and labels."""
    rows = []
    for value, label in images:
        file = io.BytesIO()
        Image.new("L", (8, 8), value).save(file, "PNG")
        rows.append({"image": {"bytes": file.getvalue(), "path": None}, "label": label})
    folder.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "train.parquet")


def test_parquet_files(tmp_path):
    words = ["data=parquet", f"data.files={tmp_path / 'own'}", "data.image_size=[8,8]", "data.channels=1"]
    settings = compose(*words, f"data.cache={tmp_path / 'cache'}", f"output={tmp_path / 'run'}")
    images = [(value, value % 2) for value in range(0, 200, 5)]
    parquet(tmp_path / "own", images)
    before = ImageRecord.of(open_images(settings))
    parquet(tmp_path / "own", [*images[1:], (201, 1), (203, 1)])
    said = "; ".join(changes(before, ImageRecord.of(open_images(settings))))
    assert said.count("new") + said.count("gone") <= 3
    assert "gone (0 1)" in said
    assert sum(int(part.partition(" new")[0].split()[-1]) for part in said.split("; ") if " new" in part) == 2
