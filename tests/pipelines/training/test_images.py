"""How commands open a run's images: remembered by the run, compared by content, asked for by single keys."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.artifacts.models import load_tokenizer, preprocessing_of
from pipelines.artifacts.run_folder import RunFolder
from pipelines.config.migrations import modernised
from pipelines.tasks.evaluate import evaluate
from pipelines.tasks.extract_codes import extract_codes
from pipelines.tasks.reconstruct import reconstruct
from pipelines.tasks.run import check_with_images, run
from pipelines.tasks.train_stage1 import train_stage1
from pipelines.training.image_record import ImageRecord, changes
from pipelines.training.images import RunImages, check_batch_size, open_images, run_data
from stage1_vqvae.data import Preprocessing
from stage1_vqvae.files import read_json, read_yaml, write_yaml
from tests.support.tiny import TINY, compose

EVALUATION = ["n=0", "network.steps=2", "batch_size=16", "seed=0"]


def photos(folder, names, count=24):
    """Distinct images of 12 bits, of each class."""
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.integers(0, 4000, (28, 28)).astype(np.uint16)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def words(files, output, *more):
    rest = [word for word in TINY if not word.startswith("experiment=")]
    shape = ("stage1.model.downsample_factor=8", "stage1.model.padding=2", "stage2=transformer_small")
    data = ("data=folder", "data.image_size=[28,28]", "data.channels=1", f"data.files={files}")
    return [*shape, *rest, *data, f"output={output}", *more]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of images, ``pets``, and a run with a tokenizer and codes of it, ``run``."""
    folder = tmp_path_factory.mktemp("images")
    photos(folder / "pets", ("cat", "dog"))
    (folder / "pets" / "cat" / "bad.png").write_bytes(b"no image")
    before = Path.cwd()
    os.chdir(folder)
    try:
        settings = compose(*words("pets/", folder / "run", f"data.cache={folder / 'cache'}", "data.max_bad=0.5"))
        train_stage1(settings)
        extract_codes(settings)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """The same, to be changed."""
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def settings_of(folder, *more):
    return compose(*words("pets/", folder / "run", f"data.cache={folder / 'cache'}", "data.max_bad=0.5", *more))


def remember(folder, **data):
    """Change what the run remembers of its images."""
    path = folder / "run" / "tokenizer" / "data.yaml"
    write_yaml(path, {**read_yaml(path), **data})


def test_a_run_remembers_all_that_opens_its_images(made):
    data = read_yaml(made / "run" / "tokenizer" / "data.yaml")
    assert data["files"] == str(made / "pets")
    assert (data["max_bad"], data["cache"]) == (0.5, str(made / "cache"))
    described = read_yaml(made / "run" / "tokenizer" / "config.yaml")["data"]["train"]
    assert described["preprocessing"]["range"] == [0.0, 4095.0]


def test_commands_on_a_run_use_what_it_remembers(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reconstruct(compose(f"model={made / 'run'}", f"output={tmp_path}", command="reconstruct"))
    evaluate(compose(f"model={made / 'run'}", f"output={tmp_path / 'e'}", *EVALUATION, command="evaluate"))
    shown = capsys.readouterr().out
    assert shown.count("folder pets, 28×28, grey") == 2
    assert "cannot be read, the first is" in shown
    assert read_json(tmp_path / "metrics.json")["psnr"] > 0
    assert (tmp_path / "e" / "evaluation.json").exists()


def test_single_keys_take_the_place_of_what_is_remembered(made):
    run_folder = RunFolder(made / "run")
    asked = compose(f"model={made / 'run'}", "data.max_bad=0.1", "+data.mine=3", command="evaluate")["data"]
    data = run_data(run_folder, asked)
    remembered = read_yaml(run_folder.data)
    assert data == {**remembered, "max_bad": 0.1, "mine": 3}
    with pytest.raises(ValueError, match=r"data\.mine: no such key"):
        open_images({"data": data, "trust": []})
    other = compose(f"model={made / 'run'}", "data=mnist5k", command="evaluate")["data"]
    assert run_data(run_folder, other) == other


@pytest.mark.parametrize("spelled", ["pets", "./pets/", "{}/pets"])
def test_one_folder_is_one_data_set_however_it_is_spelled(made, monkeypatch, capsys, spelled):
    monkeypatch.chdir(made)
    train_stage1(compose(*words(spelled.format(made), made / "run", "data.max_bad=0.5")))
    assert "tokenizer: already trained" in capsys.readouterr().out


def test_images_may_move(copied, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (copied / "pets").rename(tmp_path / "pets")
    evaluation = [f"model={copied / 'run'}", f"output={tmp_path / 'e'}", *EVALUATION]
    remember(copied, files=str(copied / "pets"))
    with pytest.raises(ValueError, match=rf"data\.files={copied}/pets: nothing is there; .* data\.files=\.\.\. says"):
        evaluate(compose(*evaluation, command="evaluate"))
    remember(copied, files="old/pets")  # as 0.1.0 did
    with pytest.raises(ValueError, match=rf"data\.files=old/pets: nothing is there .looked for at {tmp_path}/old/pets"):
        evaluate(compose(*evaluation, command="evaluate"))
    evaluate(compose(*evaluation, f"data.files={tmp_path / 'pets'}", command="evaluate"))
    assert "not the images" not in capsys.readouterr().out
    train_stage1(compose(*words(tmp_path / "pets", copied / "run", "data.max_bad=0.5")))
    assert "tokenizer: already trained" in capsys.readouterr().out
    assert read_yaml(copied / "run" / "tokenizer" / "data.yaml")["files"] == str(tmp_path / "pets")


def test_images_that_changed_are_never_taken_for_those_before(copied, monkeypatch, capsys):
    monkeypatch.chdir(copied)
    settings = settings_of(copied)
    photos(copied / "pets", ("cow",), count=1)
    known = ImageRecord.read(copied / "run" / "tokenizer" / "images.npz")
    (copied / "pets" / "dog" / "0.png").unlink()
    said = changes(known, ImageRecord.of(open_images(settings)))
    assert sorted(re.findall(r"\d+ \w+ \(\w+ \d+\)", "; ".join(said))) == ["1 gone (dog 1)", "1 new (cow 1)"]
    with pytest.raises(ValueError, match=r"tokenizer of other images \(images, .* or another output=") as refused:
        train_stage1(settings)
    assert all(f"images, {line}" in str(refused.value) for line in said)
    assert f"with stage1.init={copied / 'run'} to start from what was learned" in str(refused.value)
    shutil.rmtree(copied / "run" / "codes")
    with pytest.raises(ValueError, match=r"images are not those that .*tokenizer was trained on \(.*1 new"):
        extract_codes(settings)
    asked = [f"model={copied / 'run'}", f"output={copied / 'e'}", *EVALUATION]
    remember(copied, files=str(copied / "pets"))
    with pytest.raises(ValueError, match="images are not those that") as error:
        evaluate(compose(*asked, "data.workers=1", command="evaluate"))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="images are not those that"):
        reconstruct(compose(f"model={copied / 'run'}", f"output={copied}", command="reconstruct"))
    advice = re.search(r"restore them, or give (data\.files=\S+) to measure these$", str(error.value))[1]
    assert advice == f"data.files={copied / 'pets'}"
    evaluate(compose(*asked, advice, command="evaluate"))
    assert "these are not the images that the run was trained on (train: " in capsys.readouterr().out


def test_images_that_are_gone_stop_no_finished_work(copied, capsys, monkeypatch):
    monkeypatch.chdir(copied)
    shutil.rmtree(copied / "pets")
    train_stage1(settings_of(copied))
    extract_codes(settings_of(copied))
    shown = capsys.readouterr().out
    assert shown.count("images not compared with those that were used: data.files=pets/ is not a folder") == 2
    assert "codes: already extracted" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "stage2.batch_size=64",
            r"stage2\.batch_size=64 is more than the \d\d training images: set stage2\.batch_size=\d\d",
        ),
        ("stage1.batch_size=64", r"stage1\.batch_size=64 is more than the \d\d training images"),
        ("label=cow", "label=cow: classes are 0 to 1 or by name cat, dog"),
        ("label=7", "label=7: classes are 0 to 1"),
    ],
)
def test_what_counts_and_classes_do_not_allow_is_known_before_stage_one(made, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(made)
    cache = f"data.cache={made / 'cache'}"
    with pytest.raises(ValueError, match=message):
        run(compose(*words("pets", tmp_path / "run", cache, "data.max_bad=0.5", change)))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_copies_count_for_the_second_stages_batch(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made)
    cache = f"data.cache={made / 'cache'}"
    settings = compose(*words("pets", tmp_path, cache, "data.max_bad=0.5", "stage2.batch_size=64", "codes.copies=2"))
    check_with_images(RunFolder(tmp_path), settings, RunImages(settings))
    check_batch_size("stage2", 64, 32, 2)
    with pytest.raises(
        ValueError, match=r"the 31 training images × codes\.copies=2: set stage2\.batch_size=62 or less"
    ):
        check_batch_size("stage2", 64, 31, 2)


def test_images_to_complete_are_scaled_as_those_of_the_training(made):
    tokenizer, saved = load_tokenizer(made / "run" / "tokenizer")
    assert preprocessing_of(saved.config, tokenizer) == Preprocessing(28, 28, 1, (0.0, 4095.0))


def test_runs_of_0_1_0_keep_their_split():
    old = {"_target_": "stage1_vqvae.image_sources.Folder", "files": "x"}
    kept = {"holdout": "position", "jpeg_draft": False}
    assert modernised(old) == {"_target_": "stage1_vqvae.data.Folder", "files": "x", **kept}
    digits = {"_target_": "stage1_vqvae.image_sources.Mnist5k"}
    assert modernised(digits) == {"_target_": "stage1_vqvae.data.Mnist5k"}
