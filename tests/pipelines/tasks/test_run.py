import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.artifacts.models import fingerprint
from pipelines.tasks.run import run
from stage1_vqvae.data.augmentation import normalize
from stage1_vqvae.files import read_json, read_yaml
from stage2_prior.code_store.store import CodeStore
from tests.support.tiny import TINY, compose


def test_leaves_the_run_folder_of_the_design(tiny_run):
    for name in (
        "tokenizer/config.yaml",
        "tokenizer/model.safetensors",
        "codes/train/manifest.json",
        "codes/validation/manifest.json",
        "prior/config.yaml",
        "prior/model.safetensors",
        "samples/grid.png",
        "samples/images.npz",
        "report.html",
        "checkpoints/stage1/step-00000006.ckpt",
        "checkpoints/stage2/step-00000006.ckpt",
        "logs/metrics.csv",
    ):
        assert (tiny_run / name).is_file(), name


def test_samples_are_what_the_design_says(tiny_run):
    with np.load(tiny_run / "samples" / "images.npz") as samples:
        images, labels, codes = (samples[name] for name in ("images", "labels", "codes"))
    assert images.shape == (20, 28, 28, 1)
    assert images.dtype == np.uint8
    assert labels.tolist() == [*range(10), *range(10)]
    assert codes.dtype == np.int64
    assert len(codes) == 20
    assert Image.open(tiny_run / "samples" / "grid.png").width >= 300


def test_everything_carries_the_tokenizers_fingerprint(tiny_run):
    expected = fingerprint(tiny_run / "tokenizer")
    assert read_yaml(tiny_run / "prior" / "config.yaml")["tokenizer"] == expected
    for split in ("train", "validation"):
        assert read_json(tiny_run / "codes" / split / "manifest.json")["tokenizer"] == expected


def test_stored_codes_are_the_tokenizers(tiny_run):
    from pipelines.artifacts.models import load_tokenizer
    from pipelines.training.images import open_images

    tokenizer, _ = load_tokenizer(tiny_run / "tokenizer")
    images = open_images(compose(*TINY))
    for split in ("train", "validation"):
        store = CodeStore.open(tiny_run / "codes" / split)
        store.verify()
        data = getattr(images, split)
        assert len(store) == len(data)
        rows = list(range(0, len(data), 97))
        batch, stored = data.__getitems__(rows), store.__getitems__(rows)
        with torch.no_grad():
            assert torch.equal(tokenizer.encode(normalize(batch["images"])), stored["codes"])
        assert torch.equal(batch["labels"], stored["labels"])


def test_what_is_done_is_not_done_again(tiny_run, capsys):
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*") if path.name != "report.html"}
    run(compose(*TINY, f"output={tiny_run}"))
    assert capsys.readouterr().out.count("already") == 4
    after = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*") if path.name != "report.html"}
    assert {path for path in before if path.is_file() and before[path] != after.get(path)} == set()


def test_goes_on_where_it_was_and_ends_the_same(tiny_run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    for name in ("codes/validation/manifest.json", "prior/config.yaml", "samples/images.npz", "report.html"):
        (copy / name).unlink()
    run(compose(*TINY, f"output={copy}"))
    for name in ("prior/model.safetensors", "codes/validation/codes-00000-of-00001.safetensors"):
        assert (copy / name).read_bytes() == (tiny_run / name).read_bytes(), name
    with np.load(copy / "samples/images.npz") as again, np.load(tiny_run / "samples/images.npz") as first:
        assert np.array_equal(again["images"], first["images"])


def test_the_same_settings_give_the_same_bytes_in_another_folder(tiny_run, tmp_path):
    torch.manual_seed(12345)  # whatever happened in the process before
    run(compose(*TINY, f"output={tmp_path / 'again'}"))
    for name in ("tokenizer", "prior"):
        again, first = (folder / name / "model.safetensors" for folder in (tmp_path / "again", tiny_run))
        assert again.read_bytes() == first.read_bytes(), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stage1.model.width=16", r"tokenizer holds a tokenizer of other settings \(stage1.model.width: 8, now 16\)"),
        ("stage2.model.width=32", r"prior holds a prior of other settings \(stage2.model.width: 16, now 32\)"),
        ("n=30", r"samples holds a set of samples of other settings \(n: 20, now 30\)"),
    ],
)
def test_other_settings_never_replace_what_is_there(tiny_run, change, message):
    with pytest.raises(ValueError, match=message):
        run(compose(*TINY, f"output={tiny_run}", change))


def test_a_retrained_tokenizer_is_never_paired_with_old_codes(tiny_run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    shutil.rmtree(copy / "tokenizer")
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(ValueError, match="holds a set of codes of other settings"):
        run(compose(*TINY, f"output={copy}", "seed=1"))
