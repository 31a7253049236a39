"""Every option of every group composes, fits its target's signature and builds."""

from pathlib import Path

import pytest
import torch

from pipelines.config.conf import groups
from pipelines.config.instantiate import build
from pipelines.config.schema import check_settings
from pipelines.distributed.hardware import Hardware
from pipelines.posterior_collapse.latent_pixels import LatentPixelModel
from pipelines.tasks.run import check
from stage1_vqvae.adversarial import Discriminator
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.data import Hub, Parquet
from stage1_vqvae.quantizers.base import Quantizer
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import Prior
from tests.support.tiny import compose, tiny

CONF = Path(__file__).parents[2] / "conf"
NARROW = ["stage2.model.width=16"]  # all else of a large recipe is what is tested
NEEDED = {
    "folder": ["data.files=x"],
    "parquet": ["data.files=x"],
    "numpy": ["data.files=x"],
    "hub": ["data.name=x"],
    "vqvae2": ["data.image_size=[32,32]"],
    "pixelcnn_hierarchy": ["stage1=vqvae2", "data.image_size=[32,32]"],
    "ffhq256_vqvae2": ["data.files=x", *NARROW],
    "imagenet128": NARROW,
    "cells64": ["data.files=x"],
    "signs64": ["data.files=x"],
    "vqgan256": ["data.files=x", *NARROW, "stage2.model.heads=2"],
    "patch": ["stage1/training=adversarial"],
    "projected": ["stage1/training=adversarial"],  # the discriminator; the quantizer does not mind
}


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))


COLLAPSE = [name for name in options("experiment") if name.startswith("collapse_")]  # of pipelines.collapse


@pytest.mark.parametrize("name", COLLAPSE)
def test_collapse_experiments_build(name):
    settings = compose(f"experiment={name}", command="collapse")
    assert isinstance(build(settings["autoencoder"], "autoencoder"), LatentPixelModel)
    build(settings["trainer"], "trainer")


@pytest.mark.parametrize("name", ["cifar10", "cifar10_sonnet", "cifar10_vqvae2", "imagenet128"])
def test_other_data_takes_the_place_of_a_recipes(name):
    own, other = (compose(f"experiment={name}", *words)["data"] for words in ([], ["data=parquet", "data.files=x"]))
    assert isinstance(build(own, "data"), Hub)
    assert isinstance(build(other, "data"), Parquet)
    for key in ("image_size", "channels", "augmentation"):
        assert own[key] == other[key]


@pytest.mark.parametrize("name", sorted(set(options("experiment")) - set(COLLAPSE)))
def test_experiments_build(name):
    settings = compose(f"experiment={name}", *NEEDED.get(name, []))
    model = build(settings["stage1"]["model"], "stage1.model")
    assert isinstance(model, Tokenizer)
    prior = build(settings["stage2"]["model"], "stage2.model", layout=model.layout, num_classes=10)
    assert isinstance(prior, Prior)
    build(settings["data"], "data")
    for stage in ("stage1", "stage2"):
        build(settings[stage]["optimization"], f"{stage}.optimization")
        build(settings[stage]["trainer"], f"{stage}.trainer")


OWN_EXPERIMENTS = set(options("experiment")) - set(COLLAPSE)
OF_A_RUN = ("data", "run")  # for commands on a run alone
EVERY = [
    (group, name)
    for group in groups()
    for name in options(group)
    if (group, name) != OF_A_RUN and (group != "experiment" or name in OWN_EXPERIMENTS)
]


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_every_option_of_every_group_makes_a_run_that_could_start(group, name, here):
    here("cuda" if group == "hardware" else None, 1)  # gpu and fsdp, where they would be
    if name == "tensorboard":
        pytest.importorskip("tensorboard")
    settings = compose(f"{group}={name}", *NEEDED.get(name, []))
    check_settings(settings, "config")
    check(settings)


@pytest.mark.parametrize("name", options("stage1/quantizer"))
def test_quantizers_build(name):
    quantizer = build(compose(*tiny(name))["stage1"]["quantizer"], "stage1.quantizer")
    assert isinstance(quantizer, Quantizer)
    assert set(quantizer.codebook_sizes) == {16}
    default = build(compose(f"stage1/quantizer={name}")["stage1"]["quantizer"], "stage1.quantizer")
    assert set(default.codebook_sizes) == {128 if name == "ema128" else 512}  # the rest compare


def test_a_third_level_is_a_matter_of_configuration():
    levels = ["${stage1.levels.top}", "${stage1.levels.middle}", "${stage1.levels.bottom}"]
    words = ["+stage1/quantizer@stage1.levels.middle=fsq", f"stage1.model.quantizers=[{','.join(levels)}]"]
    settings = compose("stage1=vqvae2", "data.image_size=[32,32]", *words, "stage1.model.downsample_factors=[2,2,4]")
    check_settings(settings, "config")
    layout = build(settings["stage1"]["model"], "stage1.model").layout
    assert layout == CodeLayout(((2, 2), (4, 4), (8, 8)), (512, 512, 512))


@pytest.mark.parametrize("name", options("stage1/quantizer"))
def test_levels_have_any_quantizer(name):
    words = [word.replace("stage1.quantizer.", "stage1.levels.top.") for word in tiny(name)]
    words = [word for word in words if word.startswith("stage1.levels.")]
    group = f"stage1/quantizer@stage1.levels.top={name}"
    node = compose("stage1=vqvae2", "data.image_size=[32,32]", group, *words)["stage1"]["model"]
    model = build(node, "stage1.model")
    *top, bottom = model.layout.codebook_sizes
    assert set(top) == {16}
    assert bottom == 512


@pytest.mark.parametrize("name", options("stage1/quantizer"))
def test_the_cifar10_recipe_takes_any_quantizer(name):
    stage = compose("experiment=cifar10", f"stage1/quantizer={name}")["stage1"]
    assert (
        stage["quantizer"]
        == compose(f"stage1/quantizer={name}", "stage1.trainer.max_steps=10000")["stage1"]["quantizer"]
    )
    assert isinstance(build(stage["model"], "stage1.model"), Tokenizer)


@pytest.mark.parametrize("name", options("stage1/objective"))
def test_objectives_build(name):
    assert callable(build(compose(f"stage1/objective={name}")["stage1"]["objective"], "stage1.objective"))


@pytest.mark.parametrize("name", options("stage1/discriminator"))
def test_discriminators_build_and_are_no_part_of_a_training_without_one(name):
    stage = compose("stage1/training=adversarial", f"stage1/discriminator={name}")["stage1"]
    assert isinstance(build(stage["training"]["discriminator"], "stage1.training.discriminator"), Discriminator)
    assert compose()["stage1"].keys() == stage.keys() - {"training", "discriminator"}


@pytest.mark.parametrize("name", options("stage1/likelihood"))
def test_likelihoods_build(name):
    model = build(
        compose(f"stage1/likelihood={name}", "stage1.likelihood.mixture=3")["stage1"]["model"], "stage1.model"
    )
    assert model.likelihood.mixture == 3


@pytest.mark.parametrize("name", options("stage2"))
def test_priors_build(name):
    node = compose(f"stage2={name}")["stage2"]["model"]
    layout = CodeLayout(((2, 2), (4, 4)), (4, 5)) if "hierarchy" in name else CodeLayout(((2, 2),), (4,))
    assert isinstance(build(node, "stage2.model", layout=layout, num_classes=2), Prior)


@pytest.mark.parametrize("name", [name for name in options("data") if ("data", name) != OF_A_RUN])
def test_data_builds(name):
    assert callable(build(compose(f"data={name}", *NEEDED.get(name, []))["data"], "data").open)


@pytest.mark.parametrize("name", options("logger"))
def test_loggers_build(name):
    if name == "tensorboard":
        pytest.importorskip("tensorboard")
    assert callable(build(compose(f"logger={name}")["logger"], "logger").track)


@pytest.mark.parametrize("name", options("hardware"))
def test_trainers_build_where_their_hardware_is(name):
    node = compose(f"hardware={name}")["hardware"]
    if node["accelerator"] == "gpu":
        node["accelerator"] = "cpu"
    assert isinstance(build(node, "hardware"), Hardware)


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("sample", []),
        ("reconstruct", ["data.files=x"]),
        ("complete", ["images=x"]),
        ("evaluate", []),
        ("train_decoder", []),
    ],
)
def test_commands_compose(command, needed):
    assert compose("model=runs/x", *needed, command=command)["model"] == "runs/x"


def test_checking_a_large_recipe_draws_no_weights():
    settings = compose("experiment=ffhq256_vqvae2", "data.files=x", "logger=csv")
    before = torch.get_rng_state()
    check(settings)
    assert torch.equal(torch.get_rng_state(), before)
    settings["stage2"]["model"]["heads"] = 7
    with pytest.raises(ValueError, match="heads"):
        check(settings)


def test_a_model_that_reads_its_weights_as_it_is_made_is_checked_too():
    settings = compose("logger=csv", "stage1.model._target_=tests.support.own_classes.ReadsWeights", "trust=[tests]")
    check(settings)
    settings["stage1"]["model"]["downsample_factor"] = 3
    with pytest.raises(ValueError, match="downsample_factor is a power of two"):
        check(settings)
