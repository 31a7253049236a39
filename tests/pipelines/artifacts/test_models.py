import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipelines.artifacts.models import Saved, fingerprint, load_prior, load_tokenizer, recipe, save_model
from pipelines.config.instantiate import build
from stage1_vqvae.codes import CodeLayout

TOKENIZER = {
    "_target_": "stage1_vqvae.VQVAE",
    "image_size": [8, 8],
    "channels": 1,
    "width": 8,
    "quantizer": {"_target_": "stage1_vqvae.quantizers.EMAVectorQuantizer", "dim": 4, "codebook_size": 8},
}
PRIOR = {"_target_": "stage2_prior.transformer.Transformer", "width": 8, "layers": 1, "heads": 2}


@pytest.fixture
def run(tmp_path):
    """A run's tokenizer and prior, with the prior's fingerprints right."""
    torch.manual_seed(0)
    tokenizer = build(TOKENIZER, "model")
    made = save_model(tmp_path / "tokenizer", "tokenizer", tokenizer, {"model": TOKENIZER})
    prior = build(PRIOR, "model", layout=tokenizer.layout, num_classes=2)
    config = {
        "model": PRIOR,
        "layout": tokenizer.layout.to_dict(),
        "num_classes": 2,
        "class_names": ["a", "b"],
        "tokenizer": made,
        "sampling": {"temperature": 0.9, "top_k": None, "top_p": None, "guidance": 2.0},
    }
    save_model(tmp_path / "prior", "prior", prior, config)
    return tmp_path


def test_models_load_exactly(run):
    tokenizer, saved = load_tokenizer(run / "tokenizer")
    prior, saved_prior = load_prior(run / "prior", saved.fingerprint)
    torch.manual_seed(0)
    expected = build(TOKENIZER, "model").eval()
    images = torch.rand(3, 1, 8, 8)
    assert not tokenizer.training
    assert not prior.training
    assert torch.equal(tokenizer.encode(images), expected.encode(images))
    assert prior.layout == CodeLayout(((2, 2),), (8,))
    assert recipe(saved_prior.config["sampling"]).guidance == 2.0


def test_nothing_but_plain_data_is_written(run):
    assert sorted(path.name for path in (run / "tokenizer").iterdir()) == ["config.yaml", "model.safetensors"]
    assert yaml.safe_load((run / "tokenizer" / "config.yaml").read_text())["kind"] == "tokenizer"
    assert load_file(run / "tokenizer" / "model.safetensors").keys() == build(TOKENIZER, "m").state_dict().keys()


def test_fingerprint_is_of_weights_and_configuration(run):
    before = fingerprint(run / "tokenizer")
    path = run / "tokenizer" / "config.yaml"
    text = path.read_text()
    path.write_text("# a comment\n" + text)
    assert fingerprint(run / "tokenizer") == before
    path.write_text(text.replace("width: 8", "width: 9"))
    assert fingerprint(run / "tokenizer") != before
    path.write_text(text)
    weights = run / "tokenizer" / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    assert fingerprint(run / "tokenizer") != before


def test_a_prior_refuses_another_tokenizer(run):
    with pytest.raises(ValueError, match=r"trained on codes of tokenizer .* not of 0123456789ab"):
        load_prior(run / "prior", "0123456789abcdef")


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors"])
def test_unfinished_folders_are_refused(run, name):
    (run / "tokenizer" / name).unlink()
    with pytest.raises(ValueError, match=rf"no finished tokenizer \({name} is missing\): train it first"):
        load_tokenizer(run / "tokenizer")


def test_damaged_and_foreign_files_are_refused(run):
    weights = run / "tokenizer" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        load_tokenizer(run / "tokenizer")
    weights.write_bytes((run / "prior" / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"does not belong to its config.yaml"):
        load_tokenizer(run / "tokenizer")
    with pytest.raises(ValueError, match="kind tokenizer, format 1 or 2 expected, got"):
        Saved.open(run / "prior", "tokenizer")
    (run / "tokenizer" / "config.yaml").write_text("kind: [")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_tokenizer(run / "tokenizer")
