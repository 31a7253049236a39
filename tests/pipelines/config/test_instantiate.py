from typing import Literal

import pytest

from pipelines.config.instantiate import build
from pipelines.config.types import fits
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae import VQVAE

QUANTIZER = {"_target_": "stage1_vqvae.quantizers.EMAVectorQuantizer", "dim": 4, "codebook_size": 8}
MODEL = {"_target_": "stage1_vqvae.VQVAE", "image_size": [8, 8], "channels": 1, "quantizer": QUANTIZER}


def test_builds_nested_nodes():
    model = build(MODEL, "stage1.model")
    assert isinstance(model, VQVAE)
    assert isinstance(model.quantizer, EMAVectorQuantizer)
    assert model.layout.codebook_sizes == (8,)


def test_more_arguments_reach_the_outermost():
    built = build({"a": [QUANTIZER]}, "x")
    assert isinstance(built["a"][0], EMAVectorQuantizer)
    assert build({"_target_": "stage1_vqvae.CodeLayout", "grids": [[2, 2]]}, "x", codebook_sizes=[3]).length == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebook_sise": 9}, r"stage1.quantizer.codebook_sise: no such key; did you mean codebook_size\?"),
        ({"zzz": 9}, r"stage1.quantizer.zzz: no such key; there are dim, codebook_size, commitment"),
        ({"dim": "abc"}, r"stage1.quantizer.dim: int expected, got 'abc'"),
        ({"dim": 1.5}, r"stage1.quantizer.dim: int expected, got 1.5"),
        ({"dim": True}, r"stage1.quantizer.dim: int expected, got True"),
        ({"decay": None}, r"stage1.quantizer.decay: float expected, got None"),
        ({"decay": 1.5}, r"stage1.quantizer: decay is in \[0, 1\), got 1.5"),
        ({"_target_": "stage1_vqvae.quantizers.vector.Nope"}, r"there is no 'stage1_vqvae.quantizers.vector.Nope'"),
    ],
)
def test_what_does_not_fit_ends_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        build({**QUANTIZER, **change}, "stage1.quantizer")
    assert "\n" not in str(caught.value)


def test_missing_values_are_named():
    with pytest.raises(ValueError, match=r"stage1.model.channels: a value is needed"):
        build({key: value for key, value in MODEL.items() if key != "channels"}, "stage1.model")


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "subprocess.run",
        "pickle.loads",
        "stage1_vqvae.vqvae.torch.load",
        "stage1_vqvae.codes.math.prod",
        "pipelines.distributed.launch.os.system",
        "pipelines.distributed.launch.socket.socket",
        "pipelines.artifacts.models.yaml.unsafe_load",
        "pipelines.config.instantiate.importlib.import_module",
        "stage1_vqvae.vqvae.dataclass",
    ],
)
def test_what_is_not_this_projects_never_runs(target):
    with pytest.raises(ValueError, match="_target_"):
        build({"_target_": target}, "stage1.model")


def test_trusted_packages_are_found():
    import fractions

    assert build({"_target_": "fractions.Fraction", "numerator": 3}, "x", trust=["fractions"]) == fractions.Fraction(3)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (1, int | None, True),
        (None, int | None, True),
        ("a", int | None, False),
        ([1, 2], tuple[int, int], True),
        ([1, 2, 3], tuple[int, int], False),
        ([1, "a"], tuple[int, int], False),
        (["a"], list[str], True),
        ((1, 2, 3), tuple[int, ...], True),
        ("b", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ("auto", int | Literal["auto"], True),
    ],
)
def test_types_fit_as_a_reader_would_say(value, hint, expected):
    assert fits(value, hint) is expected
