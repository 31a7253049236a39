"""Tokenizers of other libraries decode here what they decode there, and the other way round."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from pipelines.api import evaluate
from pipelines.artifacts.models import load_tokenizer
from pipelines.config.instantiate import build
from pipelines.interchange.taming import read_taming
from pipelines.interchange.vqmodel import read_vqmodel, write_vqmodel
from pipelines.tasks.convert import convert
from pipelines.tasks.export import export_command
from pipelines.tasks.run import run
from tests.support.published_vqgan import PublishedVQGAN, random_weights
from tests.support.tiny import TINY, compose

CONFIG = {
    "model": {
        "target": "taming.models.vqgan.VQModel",
        "params": {
            "embed_dim": 4,
            "n_embed": 40,
            "ddconfig": {
                "double_z": False,
                "z_channels": 6,
                "resolution": 16,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 32,
                "ch_mult": [1, 2],
                "num_res_blocks": 1,
                "attn_resolutions": [8],
                "dropout": 0.0,
            },
        },
    }
}
WEIGHTS = {"widths": (32, 64), "layers": 1, "latent": 6, "dim": 4, "codes": 40, "attended": (1,)}


def changed(**values):
    """The configuration with other values, of the networks or above them."""
    config = json.loads(json.dumps(CONFIG))
    params = config["model"]["params"]
    for key, value in values.items():
        place = next(part for part in (config["model"], params, params["ddconfig"]) if key in part or part is params)
        (params["ddconfig"] if key not in place else place)[key] = value
    return config


@pytest.fixture(scope="module")
def published():
    """Weights of a small VQGAN, in taming's names."""
    return random_weights(**WEIGHTS)


@pytest.fixture
def checkpoint(tmp_path, published):
    """A checkpoint as Lightning writes it, with its YAML beside it."""
    path = tmp_path / "vqgan" / "last.ckpt"
    path.parent.mkdir()
    loss = {"loss.discriminator.main.0.weight": torch.zeros(2)}
    torch.save({"state_dict": {**published, **loss}, "epoch": 3, "hyper_parameters": {}}, path)
    (path.parent / "project.yaml").write_text(yaml.safe_dump(CONFIG))
    return path


def decoded(tokenizer, codes):
    """What a tokenizer's decoder gives, without clamping."""
    with torch.no_grad():
        latents = tokenizer.quantizer.lookup(torch.from_numpy(codes))
        return tokenizer.decode_latents([latents]).numpy()


def test_a_checkpoint_of_taming(checkpoint, published):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 16, 16)).astype(np.float32)
    theirs = PublishedVQGAN(published)
    codes, _ = theirs.encode(images)
    tokenizer, _ = read_taming(checkpoint)
    assert np.array_equal(tokenizer.encode(torch.from_numpy(images)).numpy(), codes.reshape(2, -1))
    assert len(np.unique(codes)) > 10
    assert np.abs(decoded(tokenizer, codes) - theirs.decode(codes)).max() < 1e-5
    save_file(published, checkpoint.with_suffix(".safetensors"))
    again, _ = read_taming(checkpoint.with_suffix(".safetensors"), image_size=(16, 32))
    assert np.array_equal(decoded(again, codes), decoded(tokenizer, codes))
    assert again.layout.grids == ((8, 16),)


def test_a_run_goes_on_from_it(checkpoint, tmp_path):
    run_folder = convert(compose(f"model={checkpoint}", f"output={tmp_path / 'vqgan_run'}", command="convert"))
    _, saved = load_tokenizer(run_folder / "tokenizer")
    assert convert(compose(f"model={checkpoint}", f"output={run_folder}", command="convert")) == run_folder  # as it was
    arrays = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=arrays, labels=np.arange(40) % 2)
    output = tmp_path / "run"
    words = [word for word in TINY if not word.startswith(("experiment=", "stage1.", "n="))]
    data = ["data=numpy", f"data.files={tmp_path / 'images.npz'}", "n=2", "stage2=transformer_small", "evaluation.n=0"]
    words = [word for word in [*words, *data] if not word.startswith("evaluation.")]
    run(compose(*words, f"tokenizer={run_folder}", f"output={output}"))
    assert load_tokenizer(output / "tokenizer")[1].fingerprint == saved.fingerprint
    assert yaml.safe_load((output / "prior" / "config.yaml").read_text())["tokenizer"] == saved.fingerprint
    assert np.load(output / "samples" / "images.npz")["images"].shape == (2, 16, 16, 3)
    small = {"n": 0, "network.steps": 2, "network.width": 4}
    assert evaluate(output, settings=small)["reconstruction"]["psnr"] > 0
    other = random_weights(**WEIGHTS, seed=1)
    save_file(other, checkpoint.with_suffix(".safetensors"))
    path = checkpoint.with_suffix(".safetensors")
    settings = compose(f"model={path}", f"output={run_folder}", command="convert")
    with pytest.raises(ValueError, match="holds another tokenizer: give another output="):
        convert(settings)


class Danger:
    def __reduce__(self):
        return (print, ("code of a stranger",))


def test_what_is_no_such_checkpoint_is_said_in_one_line(checkpoint, published, tmp_path, capsys):
    config = checkpoint.parent / "project.yaml"

    def refused(words, **options):
        with pytest.raises(ValueError, match=words) as caught:
            read_taming(options.pop("path", checkpoint), **options)
        assert "\n" not in str(caught.value)

    for values, words in (
        ({"target": "taming.models.vqgan.GumbelVQ"}, "target VQModel or .* expected, got taming.models.vqgan.GumbelVQ"),
        ({"double_z": True}, "double_z False expected, got True"),
        ({"out_ch": 1}, "out_ch 3 expected, got 1"),
        ({"ch_mult": [2, 2]}, "ch_mult starts with 1"),
        ({"n_embed": 41}, r"quantize.embedding.weight is \[40, 4\], \[41, 4\] expected"),
        ({"attn_resolutions": []}, "nothing in this architecture stands for decoder.up.1.attn.0.k.bias"),
        ({"num_res_blocks": 2}, "encoder.down.0.block.1.norm1.weight is missing"),
    ):
        config.write_text(yaml.safe_dump(changed(**values)))
        refused(words)
    config.write_text("model: {}")
    refused("the configuration of a VQGAN expected, 'target' is missing")
    (checkpoint.parent / "other.yaml").touch()
    refused("more than one, lies beside it: give config=")
    config.write_text(yaml.safe_dump(CONFIG))
    torch.save({"state_dict": published, "callbacks": Danger()}, tmp_path / "objects.ckpt")
    refused("holds Python objects, which are not loaded", path=tmp_path / "objects.ckpt", config=config)
    (tmp_path / "damaged.safetensors").write_bytes(b"no")
    refused("cannot be read", path=tmp_path / "damaged.safetensors", config=config)
    assert "stranger" not in capsys.readouterr().out


@pytest.mark.parametrize("quantizer", ["gradient", "cosine", "projected"])
def test_ours_as_a_vqmodel_and_back(quantizer, tmp_path):
    small = ["stage1.model.width=32", "stage1.model.multipliers=[1,2]", "data.image_size=[8,8]", "data.channels=3"]
    sizes = ["stage1.quantizer.quantizer.dim=3"] if quantizer == "projected" else []
    words = ["stage1/network=vqmodel", f"stage1/quantizer={quantizer}", "stage1.quantizer.dim=4", *sizes, *small]
    torch.manual_seed(0)
    ours = build(compose(*words, "stage1.model.style.attention_at=[1]")["stage1"]["model"], "stage1.model").eval()
    for parameter in ours.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    write_vqmodel(tmp_path, ours)
    back, _ = read_vqmodel(tmp_path)
    images = torch.rand(3, 3, 8, 8) * 2 - 1
    codes = ours.encode(images)
    assert torch.equal(back.encode(images), codes)
    assert (back.decode(codes) - ours.decode(codes)).abs().max() < 1e-5

    library = pytest.importorskip("diffusers")
    theirs = library.VQModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        latents = theirs.encode(images).latents
        assert torch.equal(theirs.quantize(latents)[2][2].view(3, -1), codes)
        assert (theirs.decode(latents).sample.clamp(-1, 1) - ours.decode(codes)).abs().max() < 1e-5


def test_a_vqmodel_of_diffusers(tmp_path):
    library = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = library.VQModel(
        block_out_channels=(32, 64, 96),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=2,
        latent_channels=5,
        vq_embed_dim=4,
        norm_num_groups=16,
        sample_size=16,
    ).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.03)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(path)
    for old_names in (False, True):
        if old_names:
            for new, old in older.items():
                weights = {name.replace(f".{new}.", f".{old}."): value for name, value in weights.items()}
            save_file(weights, path)
        ours, _ = read_vqmodel(tmp_path)
        images = torch.rand(2, 3, 16, 16) * 2 - 1
        with torch.no_grad():
            latents = theirs.encode(images).latents
            codes = theirs.quantize(latents)[2][2].view(2, -1)
            assert torch.equal(ours.encode(images), codes)
            assert (theirs.decode(latents).sample.clamp(-1, 1) - ours.decode(codes)).abs().max() < 1e-5


def test_what_is_no_vqmodel_is_said_in_one_line(tiny_run, tmp_path):
    words = ["stage1/network=vqmodel", "stage1/quantizer=gradient", "data.channels=3", "data.image_size=[8,8]"]
    ours = build(compose(*words, "stage1.model.width=32")["stage1"]["model"], "stage1.model")
    write_vqmodel(tmp_path / "good", ours)
    for key, value, message in (
        ("_class_name", "AutoencoderKL", "_class_name VQModel expected, got AutoencoderKL"),
        ("act_fn", "gelu", "act_fn silu expected, got gelu"),
        ("norm_type", "spatial", "norm_type group expected, got spatial"),
        ("down_block_types", ["DownBlock2D"] * 3, "DownEncoderBlock2D or AttnDownEncoderBlock2D expected"),
        ("down_block_types", ["AttnDownEncoderBlock2D"] * 3, "not the mirror of down_block_types"),
        ("norm_num_groups", 48, "norm_groups=48 does not divide"),
    ):
        folder = shutil.copytree(tmp_path / "good", tmp_path / "bad", dirs_exist_ok=True)
        plain = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**plain, key: value}))
        with pytest.raises(ValueError, match=message):
            read_vqmodel(folder)
    settings = compose(f"model={tiny_run}", "format=vqmodel", f"output={tmp_path / 'x'}", command="export")
    with pytest.raises(ValueError, match="a VQVAE is no VQGAN: train with stage1/network=vqmodel"):
        export_command(settings)
    for word, message in {
        "stage1.model.style.border=all": "its blocks are not made as published",
        "stage1.model.layers=2": "the decoder has 2 layers, not 3",
        "stage1.model.padding=4": "its padding is 4",
        "stage1/quantizer=fsq": "its quantizer, FSQ, looks for no nearest vector",
    }.items():
        other = build(compose(*words, "stage1.model.width=32", word)["stage1"]["model"], "stage1.model")
        with pytest.raises(ValueError, match=message):
            write_vqmodel(tmp_path / "x", other)
    assert not (tmp_path / "x").exists()
    for given, message in {
        (): "give one of the two",
        ("model=nowhere",): "a folder with config.json, or a file",
    }.items():
        settings = compose(*given, f"output={tmp_path / 'y'}", command="convert")
        with pytest.raises(ValueError, match=message):
            convert(settings)
