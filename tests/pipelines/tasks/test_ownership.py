"""What a run's folder holds is never taken for what other settings or other images would make."""

import json
import re
import shutil

import pytest
from PIL import Image

from pipelines.tasks.evaluate import evaluate
from pipelines.tasks.extract_codes import extract_codes
from pipelines.tasks.run import run
from pipelines.tasks.sample import sample_command
from pipelines.tasks.train_stage1 import train_stage1
from pipelines.tracking.csv import read_metrics
from stage1_vqvae.files import read_yaml, sha256
from tests.support.tiny import TINY, compose


def settings(*more):
    return compose(*TINY, *more)


@pytest.fixture
def folder(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def follow(advice):
    """Remove what a message says has to go."""
    for name in re.search(r"or remove (.*)$", advice)[1].replace(" and ", ", ").split(", "):
        shutil.rmtree(name)


@pytest.fixture
def images(tmp_path):
    """A folder of 20 photographs of two classes."""
    for number in range(20):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), number * 12).save(path)
    return tmp_path / "images"


def own(images, output, *more):
    words = [word for word in TINY if not word.startswith("experiment=")]
    shape = ("stage1.model.downsample_factor=8", "stage1.model.padding=2", "stage2=transformer_small")
    data = ("data=folder", "data.image_size=[28,28]", "data.channels=1", f"data.cache={output}-cache")
    return compose(*shape, *words, *data, f"data.files={images}", f"output={output}", *more)


def test_a_mistake_does_not_keep_the_corrected_command_out(images, tmp_path):
    with pytest.raises(ValueError, match="my_imges"):
        train_stage1(own(tmp_path / "my_imges", tmp_path / "run"))
    with pytest.raises(ValueError, match="batch_size"):
        train_stage1(own(images, tmp_path / "run", "stage1.batch_size=64"))
    train_stage1(own(images, tmp_path / "run"))
    assert read_yaml(tmp_path / "run" / "tokenizer" / "settings.yaml")["stage1"]["batch_size"] == 16


def test_a_checkpoint_is_not_taken_for_other_settings_though_its_model_is_gone(folder, capsys):
    other = settings(f"output={folder}", "stage2.optimization.learning_rate=0.001")
    with pytest.raises(ValueError, match=r"stage2.optimization.learning_rate: 0.003, now 0.001"):
        run(other)
    shutil.rmtree(folder / "prior")
    with pytest.raises(ValueError, match=r"stage2.optimization.learning_rate: 0.003, now 0.001") as error:
        run(other)
    before = sha256(folder / "samples" / "images.npz")
    follow(str(error.value))
    with (folder / "logs" / "metrics.csv").open("a") as file:
        file.write("stage2,900,validation/nats,0.5\n")
    (folder / "logs" / "pictures" / "stage2" / "samples-900.png").touch()
    (folder / "logs" / "wandb_ids.json").write_text(json.dumps({"stage1": "1a", "stage2": "2b"}))
    run(other)
    assert read_yaml(folder / "prior" / "settings.yaml")["stage2"]["optimization"]["learning_rate"] == 0.001
    # The samples of the prior before are kept under another name, and new ones drawn.
    (aside,) = folder.glob("samples-of-prior-*")
    assert sha256(aside / "images.npz") == before
    assert "was made by another prior" in capsys.readouterr().out
    # So is what was logged while it trained: it is no part of the curves and pictures of the new one.
    assert set(read_metrics(folder)["stage2"]["validation/nats"]) == {2, 5, 6}
    assert read_metrics(folder)["stage1"]["validation/psnr"]
    assert not (folder / "logs" / "pictures" / "stage2" / "samples-900.png").exists()
    earlier = folder / "logs" / "earlier" / "stage2"
    assert "stage2,900,validation/nats,0.5" in (earlier / "metrics.csv").read_text().splitlines()
    assert (earlier / "pictures" / "samples-900.png").exists()
    assert set(json.loads((folder / "logs" / "wandb_ids.json").read_text())["ids"]) == {"stage1"}
    assert read_yaml(folder / "samples" / "settings.yaml")["prior"] != read_yaml(aside / "settings.yaml")["prior"]


def test_following_the_advice_about_a_tokenizer_works(folder):
    other = settings(f"output={folder}", "stage1.optimization.learning_rate=0.005")
    with pytest.raises(ValueError, match=r"stage1.optimization.learning_rate: 0.002, now 0.005") as error:
        run(other)
    for part in ("tokenizer", "checkpoints/stage1", "codes", "prior", "checkpoints/stage2"):
        assert str(folder / part) in str(error.value)
    follow(str(error.value))
    run(other)


@pytest.mark.parametrize("change", ["one more", "one less", "another content"])
def test_images_that_changed_are_noticed_by_every_later_step(images, tmp_path, change):
    output = tmp_path / "run"
    train_stage1(own(images, output))
    extract_codes(own(images, output))
    some = images / "a" / "0.png"
    if change == "one more":
        Image.new("L", (28, 28), 77).save(images / "a" / "new.png")
    elif change == "one less":
        some.unlink()
    else:
        Image.new("L", (28, 28), 200).save(some)
    for step in (train_stage1, extract_codes):
        with pytest.raises(ValueError, match=r"of other images \(images, "):
            step(own(images, output))


def test_images_that_are_gone_do_not_spoil_what_is_done(images, tmp_path, capsys):
    train_stage1(own(images, tmp_path / "run"))
    images.rename(tmp_path / "elsewhere")
    train_stage1(own(images, tmp_path / "run"))
    shown = capsys.readouterr().out
    assert "images not compared" in shown
    assert "already trained" in shown


def test_samples_and_evaluations_of_another_prior_are_set_aside(folder):
    sampling = compose(f"model={folder}", "n=4", command="sample")
    evaluation = compose(f"model={folder}", "n=8", "network.steps=2", command="evaluate")
    sample_command(sampling)
    evaluate(evaluation)
    drawn = sha256(folder / "samples" / "n4_seed0" / "images.npz")
    for part in ("prior", "checkpoints/stage2"):
        shutil.rmtree(folder / part)
    run(settings(f"output={folder}", "stage2.trainer.max_steps=8"))
    sample_command(sampling)
    evaluate(evaluation)
    (samples,), (evaluations,) = folder.glob("samples-of-prior-*"), folder.glob("evaluation-of-prior-*")
    assert sha256(samples / "n4_seed0" / "images.npz") == drawn
    (old,), (new,) = (path.glob("*/settings.yaml") for path in (evaluations, folder / "evaluation"))
    assert read_yaml(old)["prior"] != read_yaml(new)["prior"]


def test_a_checkpoint_says_itself_which_settings_made_it(folder):
    """Also where the file beside it was changed to say others."""
    for part in ("prior", "samples"):
        shutil.rmtree(folder / part)
    path = folder / "checkpoints" / "stage2" / "settings.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.003", "learning_rate: 0.001"))
    with pytest.raises(ValueError, match=r"holds a checkpoint of other settings than its settings.yaml says"):
        run(settings(f"output={folder}", "stage2.optimization.learning_rate=0.001"))
