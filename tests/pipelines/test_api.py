"""Training from Python: every form of images trains alike, and the process is left as it was found."""

import gc
import inspect
import logging
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image
from torch.utils.data import Dataset

from pipelines import Generator, train, train_prior, train_tokenizer
from pipelines.api import complete, evaluate, extract_codes, reconstruct
from pipelines.config.compose import Asked, composed_settings, flat, settings_from
from pipelines.config.conf import CONF
from pipelines.config.hydra_versions import VERSION_BASE
from pipelines.config.overrides import override
from pipelines.inputs.training_images import training_images
from stage1_vqvae.files import read_json, read_yaml, sha256

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(40) % 2
TINY = {
    "stage1": {"model": {"width": 8, "residual_width": 4, "residual_layers": 1}, "batch_size": 8},
    "stage1.quantizer": {"dim": 4, "codebook_size": 8},
    "stage1.trainer": {"max_steps": 4, "validate_every": 2, "checkpoint_every": 2},
    "stage2": "transformer_small",
    "stage2.model": {"width": 16, "layers": 1, "heads": 2},
    "stage2.batch_size": 8,
    "stage2.trainer": {"max_steps": 4, "validate_every": 2, "checkpoint_every": 2},
    "n": 4,
}


class Pairs(Dataset):
    """As torchvision's data sets: pairs of a PIL image and a number."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return Image.fromarray(IMAGES[index]), int(LABELS[index])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python") / "run"
    settings = {**TINY, "data.cache": str(folder.parent / "cache")}
    return folder, settings, train(IMAGES, LABELS, output=folder, settings=settings)


def test_arrays_in_a_generator_out(trained):
    folder, _, generator = trained
    assert generator.sample(3, label=1).images.shape == (3, 3, 16, 16)
    assert generator.class_names == ("0", "1")
    assert (folder / "report.html").exists()
    assert generator.sample(4) == Generator.load(folder).sample(4)


def test_the_same_call_finds_it_done_and_other_images_are_refused(trained, capsys):
    folder, settings, generator = trained
    before = sha256(folder / "prior" / "model.safetensors")
    again = train(torch.from_numpy(IMAGES).movedim(-1, 1), LABELS.tolist(), output=folder, settings=settings)
    assert "already trained" in capsys.readouterr().out
    assert again.fingerprint == generator.fingerprint
    changed = IMAGES.copy()
    changed[0] = 0
    with pytest.raises(ValueError, match="of other images"):
        train(changed, LABELS, output=folder, settings=settings)
    with pytest.raises(ValueError, match="seed: 0, now 1"):
        train(IMAGES, LABELS, output=folder, seed=1, settings=settings)
    assert sha256(folder / "prior" / "model.safetensors") == before


@pytest.mark.parametrize(
    "form",
    [
        IMAGES,
        torch.from_numpy(IMAGES).permute(0, 3, 1, 2),
        IMAGES / 255,
        list(IMAGES),
        [Image.fromarray(one) for one in IMAGES],
        Pairs(),
        [(one, label) for one, label in zip(IMAGES, LABELS, strict=True)],
        [{"image": Image.fromarray(one), "label": label} for one, label in zip(IMAGES, LABELS, strict=True)],
        [{"img": one, "target": torch.tensor(label)} for one, label in zip(IMAGES, LABELS, strict=True)],
    ],
    ids=["array", "tensor", "floats", "arrays", "PIL", "dataset", "pairs", "mappings", "tensors in mappings"],
)
def test_every_form_of_images_is_the_same_array(form):
    found = training_images(form)
    assert np.array_equal(found.images, IMAGES)
    if found.labels is not None:
        assert found.labels.tolist() == LABELS.tolist()
    assert training_images(form, [str(label) for label in LABELS]).labels.tolist() == [str(label) for label in LABELS]


def test_a_hugging_face_data_set():
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"image": [Image.fromarray(one) for one in IMAGES], "label": LABELS.tolist()})
    found = training_images(made)
    assert np.array_equal(found.images, IMAGES)
    assert found.labels.tolist() == LABELS.tolist()


def test_files_and_pictures_are_fitted_as_in_training(tmp_path):
    paths = []
    for number, size in enumerate(((16, 16), (20, 30))):
        paths.append(tmp_path / f"{number}.png")
        Image.new("L", size, 100).save(paths[-1])
    found = training_images(paths)
    assert found.images.shape == (2, 16, 16, 1)  # the first one's size, grey
    assert training_images(paths, image_size=(8, 12), channels=3).images.shape == (2, 8, 12, 3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:0], None, "at least one expected"),
        ([], None, "at least one expected"),
        (IMAGES.astype(np.int64), None, "uint8 of 0 to 255 or floats"),
        (IMAGES.astype(np.float32), None, "e.g. images / 255"),
        (IMAGES[..., 0][0], None, r"\[N, H, W, C\]"),
        (np.zeros((2, 7, 7, 9), np.uint8), None, "1 to 4 channels expected"),
        (np.zeros((2, 3, 7, 1), np.uint8), None, "first or last: say so by data.channels"),
        (IMAGES, LABELS[:3], "labels: one for each of 40"),
        (IMAGES, LABELS / 2, "integers or texts"),
        ([IMAGES[0], IMAGES[0][:8]], None, "arrays of one shape expected"),
        ([{"picture": IMAGES[0]}], None, "an example with a key"),
        ([(1, 2, 3)], None, "a pair of image and label"),
        (["no/such.png"], None, "no/such.png is no readable image"),
        (7, None, "a folder or file, array"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_in_one_line(images, labels, message):
    with pytest.raises(ValueError, match=message) as error:
        training_images(images, labels)
    assert "\n" not in str(error.value)


def test_a_folder_and_mistakes_in_settings(tmp_path):
    with pytest.raises(ValueError, match="images: there is no nowhere"):
        train("nowhere", output=tmp_path / "run")
    with pytest.raises(ValueError, match=r"stage1.model.widht: no such key; did you mean width\?"):
        train(IMAGES, output=tmp_path / "run", settings={"stage1.model.widht": 8})
    with pytest.raises(ValueError, match="mnist5"):
        train(output=tmp_path / "run", experiment="mnist5")
    with pytest.raises(ValueError, match="batch_size"):
        train(IMAGES, output=tmp_path / "run", settings={**TINY, "stage1.batch_size": 64})
    assert not (tmp_path / "run" / "tokenizer").exists()


def test_settings_are_those_of_the_command_line():
    given = {"stage2": "pixelcnn", "stage1": {"trainer": {"max_steps": 7}}, "label": "a b'c", "stage1.model.padding": 2}
    settings = composed_settings("config", Asked.of(given), {})
    assert settings["stage2"]["model"]["_target_"] == "stage2_prior.pixelcnn.PixelCNN"
    assert settings["stage1"]["trainer"]["max_steps"] == 7
    assert settings["label"] == "a b'c"
    assert settings["stage1"]["model"]["padding"] == 2
    assert override("data.image_size", (4, 6)) == "++data.image_size=[4,6]"
    assert override("stage2", "pixelcnn") == "stage2=pixelcnn"
    assert override("label", None) == "++label=null"


def test_settings_as_overrides_or_as_composed_by_hydra_are_those_of_a_mapping(trained):
    """The same run takes them all: a claim refuses any other."""
    folder, settings, generator = trained
    words = [override(key, value) for key, value in flat(settings)]
    assert train(IMAGES, LABELS, output=folder, settings=words).fingerprint == generator.fingerprint
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        config = compose("config", overrides=["data=numpy", "logger=csv", *words])
    assert train(IMAGES, LABELS, output=folder, settings=config).fingerprint == generator.fingerprint
    with pytest.raises(ValueError, match=r"batch_size: 8, now 4"):
        train(IMAGES, LABELS, output=folder, settings=[*words, "stage1.batch_size=4"])
    config.stage1.batch_size = 4
    with pytest.raises(ValueError, match=r"batch_size: 8, now 4"):
        train(IMAGES, LABELS, output=folder, settings=config)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seed": 1, "settings": {"seed": 2}}, "seed: an argument says it already"),
        ({"settings": ["output=elsewhere"]}, "output: an argument says it already"),
        ({"settings": {"data.files": "x"}}, "data.files: an argument says it already"),
        ({"validation": 0.2, "settings": {"data": {"validation": 0.1}}}, "data.validation: an argument says"),
        ({"settings": "stage2=pixelcnn"}, "settings: keys and values, a list of overrides"),
        ({"settings": ["stage2"]}, "stage2"),
        ({"settings": OmegaConf.create({"seed": 0}), "experiment": "mnist5k"}, "experiment=mnist5k: compose"),
        ({"settings": OmegaConf.create({"budget": "1h"})}, "budget: give settings as keys and values"),
        ({"validation": "0.2"}, "validation: a folder or file"),
        ({"validation": float("nan")}, "validation is a number"),
    ],
)
def test_what_is_said_twice_or_is_no_setting_is_refused(more, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        train(IMAGES, output=tmp_path / "run", **more)
    assert "\n" not in str(error.value)


def test_one_signature_with_each_function_s_own_result():
    of_train, of_tokenizer = inspect.signature(train), inspect.signature(train_tokenizer)
    assert list(of_train.parameters) == list(of_tokenizer.parameters)
    assert "images" in of_train.parameters
    assert (of_train.return_annotation, of_tokenizer.return_annotation) == ("Generator", "Tokenizer")
    assert "python -m pipelines.train_stage1" in train_tokenizer.__doc__
    assert "experiment: A recipe" in train_tokenizer.__doc__


def test_the_process_is_left_as_it_was_found(trained):
    folder, settings, _ = trained

    def state():
        return (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            logging.getLogger("pytorch_lightning").level,
            {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
            GlobalHydra.instance().is_initialized(),
        )

    before = state()
    train(IMAGES, LABELS, output=folder, settings=settings)
    with pytest.raises(ValueError, match="of other settings"):
        train(IMAGES, LABELS, output=folder, settings={**settings, "stage1.batch_size": 4})
    assert state() == before


def test_an_app_of_hydras_may_ask_and_keeps_its_own_state():
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        own = GlobalHydra.instance().hydra
        assert settings_from("config", ["seed=3"])["seed"] == 3
        assert GlobalHydra.instance().hydra is own
        with pytest.raises(ValueError, match="no such key"):
            settings_from("config", ["sed=3"])
        assert GlobalHydra.instance().hydra is own


def test_validation_of_ones_own(tmp_path):
    settings = {**TINY, "data.cache": str(tmp_path / "cache")}
    held = RNG.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    train(IMAGES, output=tmp_path / "run", validation=held, settings=settings)
    images = read_yaml(tmp_path / "run" / "tokenizer" / "settings.yaml")["images"]
    assert {name: split["count"] for name, split in images.items()} == {"train": 40, "validation": 6}


def test_loading_a_generator_imports_nothing_that_trains(trained):
    code = (
        "import sys; from pipelines import Generator\n"
        f"Generator.load({str(trained[0])!r}).sample(1)\n"
        "heavy = {'pytorch_lightning', 'wandb', 'datasets', 'torchmetrics', 'hydra'}\n"
        "heavy = (heavy | {'huggingface_hub', 'gradio', 'onnx', 'onnxruntime'}) & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stages_by_themselves_make_what_the_whole_makes(trained, tmp_path):
    whole, settings, generator = trained
    given = {"output": tmp_path / "run", "settings": settings}
    tokenizer = train_tokenizer(IMAGES, LABELS, **given)
    store = extract_codes(IMAGES, LABELS, **given)
    prior = train_prior(IMAGES, LABELS, **given)
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.equal(tokenizer.encode(images), generator.tokenizer.encode(images))
    splits = read_yaml(tmp_path / "run" / "tokenizer" / "settings.yaml")["images"]
    assert len(store) == splits["train"]["count"] == 40 - splits["validation"]["count"]
    assert prior.sample(4) == generator.sample(4)
    for part in ("tokenizer", "prior"):
        weights = (folder / part / "model.safetensors" for folder in (whole, tmp_path / "run"))
        assert len({sha256(path) for path in weights}) == 1


def test_evaluate_gives_what_its_file_holds(trained):
    folder, _, _ = trained
    sections = evaluate(folder, settings={"n": 8, "network.steps": 2})
    assert sections == read_json(next(folder.glob("evaluation/*/evaluation.json")))
    assert sections == evaluate(folder, settings={"n": 8, "network.steps": 2})
    assert sections["reconstruction"]["psnr"] > 0
    with pytest.raises(ValueError, match="nn: no such key"):
        evaluate(folder, settings={"nn": 8})
    metrics = reconstruct(folder)
    assert metrics == read_json(folder / "reconstructions" / "metrics.json")
    assert metrics["psnr"] == pytest.approx(sections["reconstruction"]["psnr"])


def test_complete_draws_into_the_folder_that_it_returns(trained, tmp_path):
    folder, _, generator = trained
    Image.fromarray(IMAGES[0]).save(tmp_path / "one.png")
    made = complete(folder, tmp_path / "one.png", settings={"keep": "left", "n": 2, "output": str(tmp_path / "made")})
    assert made == tmp_path / "made"
    drawn = np.load(made / "images.npz")
    expected = generator.complete(generator.encode(IMAGES[:1]).repeat(2, 1), "left")
    assert np.array_equal(drawn["codes"], expected.codes.numpy())
    with pytest.raises(ValueError, match="nowhere: an image's file or a folder of images expected"):
        complete(folder, tmp_path / "nowhere", settings={"output": str(tmp_path / "other")})


def test_memory_is_flat_over_trainings(trained, tmp_path):
    """What a training leaves behind would be hundreds of objects and its weights."""
    _, settings, _ = trained

    def left(number):
        train(IMAGES, LABELS, output=tmp_path / str(number), settings=settings)
        gc.collect()
        objects = gc.get_objects()
        return len(objects), sum(type(one) in (torch.Tensor, torch.nn.Parameter) for one in objects)

    (objects, tensors), *_, (later_objects, later_tensors) = [left(number) for number in range(3)]
    assert later_tensors <= tensors
    assert later_objects - objects < 500
