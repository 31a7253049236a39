import numpy as np
import pytest
from PIL import Image

from pipelines.budget import choosing
from pipelines.budget.choosing import Chooser, facts_of, unset
from pipelines.budget.rules import Choice
from pipelines.config.compose import settings_from
from pipelines.training.images import RunImages


def kept(asked, *keys):
    return [one.key for one in unset([Choice(key, 0, "") for key in keys], asked)]


def test_what_the_user_set_stays():
    assert kept(["seed=3"], "stage1.model.width", "stage2") == ["stage1.model.width", "stage2"]
    keys = ("stage1.model.width", "stage1.model.norm", "stage2")
    assert kept(["stage1.model.width=9", "++stage2=pixelcnn"], *keys) == ["stage1.model.norm"]
    keys = ("stage1.quantizer.codebook_size", "stage1.model.width")
    assert kept(["stage1/quantizer=fsq"], *keys) == ["stage1.model.width"]
    assert kept(["stage1=vqvae2"], "stage1.model.width", "stage1.trainer.max_steps") == ["stage1.trainer.max_steps"]
    keys = ("stage1.trainer.max_steps", "stage1.trainer.validate_every")
    assert kept(["stage1.trainer.max_steps=9"], *keys) == ["stage1.trainer.validate_every"]


def test_a_recipe_leaves_the_lengths_alone_to_be_chosen():
    keys = ("codes.copies", "data.augmentation.shift", "stage1.model.width", "stage2", "stage2.trainer.max_steps")
    assert kept(["experiment=mnist5k"], *keys) == ["stage2.trainer.max_steps"]


def test_where_images_come_from_and_what_computes_leave_the_rest_open():
    keys = ("data.augmentation.shift", "hardware.precision", "data.image_size")
    assert kept(["data=folder", "hardware=gpu", "data.files=here", "data.image_size=[8,8]"], *keys) == list(keys[:2])


def test_another_prior_keeps_its_own_optimiser():
    assert kept(["stage2=pixelcnn"], "stage2/optimizer", "stage2.trainer.max_steps") == ["stage2.trainer.max_steps"]
    assert kept(["stage2/optimizer=adamw"], "stage2/optimizer", "stage2") == ["stage2"]


@pytest.fixture
def steps(monkeypatch):
    """Seconds of a step by its settings, in place of a clock's."""

    def install(seconds):
        for name in ("tokenizer_step", "prior_step"):
            monkeypatch.setattr(choosing, name, lambda settings, hardware: seconds(settings))
        monkeypatch.setattr(choosing, "seconds_per_step", lambda step, device: step)

    return install


def photographs(folder, size, count=24, mode="RGB"):
    noise = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    folder.mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}.png")
    return folder


def chosen(folder, seconds, *words):
    words = ("data=folder", f"data.files={folder}", f"data.cache={folder.parent / 'cache'}", *words)
    chooser = Chooser(settings_from("config", [*words, f"output={folder.parent / 'run'}"]), words, seconds)
    return {one.key: one.value for one in chooser.all()}, chooser


@pytest.mark.parametrize(("budget", "size"), [(3600, [128, 128]), (600, [64, 64])])
def test_the_largest_images_that_get_enough_steps_are_taken(budget, size, steps, tmp_path):
    """Of the tokenizer 0.35 of the time; steps of 64×64 take 0.1 s, of 128×128 four times as long."""
    steps(lambda settings: np.prod(settings["data"]["image_size"]) / 40_960)
    found, chooser = chosen(photographs(tmp_path / "photographs", (130, 140)), budget)
    assert found["data.image_size"] == size
    assert list(chooser.images.opened.image_size) == size
    assert found["stage1.model.downsample_factor"] == size[0] // 16
    assert found["data.augmentation.shift"] == size[0] // 32


def test_a_size_that_is_asked_for_stays(steps, tmp_path):
    steps(lambda settings: 0.1)
    found, _ = chosen(photographs(tmp_path / "photographs", (70, 70)), 3600, "data.image_size=[32,32]")
    assert "data.image_size" not in found
    assert found["stage1.model.downsample_factor"] == 2


def test_grey_photographs_are_read_as_grey(steps, tmp_path):
    steps(lambda settings: 0.1)
    found, chooser = chosen(photographs(tmp_path / "photographs", (64, 64), mode="L"), 3600)
    assert found["data.channels"] == chooser.images.opened.channels == 1


def hardware(settings, precision=1.0, last=1.0, compiled=1.0):
    asked = settings["hardware"]
    return (
        (precision if asked["precision"] == "bf16-mixed" else 1)
        * (last if asked["channels_last"] else 1)
        * (compiled if asked["compile"] else 1)
    )


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"precision": 0.5}, {"precision": "bf16-mixed"}),
        ({"precision": 0.5, "last": 0.8}, {"precision": "bf16-mixed", "channels_last": True}),
        ({"precision": 2.0, "last": 0.5}, {"channels_last": True}),
        ({"precision": 0.95}, {}),
        ({"compiled": 0.5}, {}),  # half an hour is too short to compile
    ],
)
def test_what_makes_steps_faster_here_is_taken(shares, expected, steps, tmp_path):
    steps(lambda settings: 0.1 * hardware(settings, **shares))
    found, _ = chosen(photographs(tmp_path / "photographs", (32, 32)), 1800)
    assert {key: value for key, value in found.items() if key.startswith("hardware.")} == {
        f"hardware.{key}": value for key, value in expected.items()
    }


def test_long_runs_are_compiled_where_that_is_faster(steps, tmp_path):
    steps(lambda settings: 0.1 * hardware(settings, compiled=0.5))
    folder = photographs(tmp_path / "photographs", (32, 32))
    assert chosen(folder, 7200)[0]["hardware.compile"] is True
    assert "hardware.compile" not in chosen(folder, 7200, "stage1/training=adversarial")[0]
    assert "hardware.compile" not in chosen(folder, 7200, "hardware.compile=false")[0]


def test_what_the_machine_lacks_is_not_taken(steps, tmp_path):
    def seconds(settings):
        if settings["hardware"]["precision"] == "bf16-mixed":
            raise RuntimeError("no bfloat16 here")
        return 0.1

    steps(seconds)
    found, _ = chosen(photographs(tmp_path / "photographs", (32, 32)), 3600)
    assert "hardware.precision" not in found


def test_colours_are_counted(tmp_path):
    folder = tmp_path / "drawn"
    folder.mkdir()
    palette = np.random.default_rng(0).integers(0, 256, (7, 3), dtype=np.uint8)
    for number in range(30):
        Image.fromarray(palette[np.random.default_rng(number).integers(0, 7, (32, 32))]).save(folder / f"{number}.png")
    words = ["data=folder", f"data.files={folder}", "data.image_size=[32,32]", f"data.cache={tmp_path / 'cache'}"]
    assert facts_of(RunImages(settings_from("config", [*words, f"output={tmp_path}"])).opened).colours == 7


def test_images_that_nearly_equal_another_are_not_distinct(tmp_path):
    folder = photographs(tmp_path / "photographs", (32, 32), count=40)
    for number in range(10):  # a little brighter
        with Image.open(folder / f"{number}.png") as image:
            brighter = np.clip(np.asarray(image).astype(int) + 1, 0, 255).astype(np.uint8)
        Image.fromarray(brighter).save(folder / f"brighter{number}.png")
    words = ["data=folder", f"data.files={folder}", "data.image_size=[32,32]", f"data.cache={tmp_path / 'cache'}"]
    images = RunImages(settings_from("config", [*words, f"output={tmp_path}"])).opened
    facts = facts_of(images)
    pixels = images.train.__getitems__(list(range(len(images.train))))["images"].int().flatten(1)
    equal = (pixels[:, None] - pixels[None]).abs().amax(2) <= 1
    both = int(equal.tril(-1).sum())
    assert facts.images == len(images.train)
    assert 0 < both == facts.images - facts.distinct
