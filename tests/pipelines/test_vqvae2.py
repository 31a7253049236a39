"""Several grids through every command: what one grid does, they do."""

import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import complete, reconstruct
from pipelines.artifacts.models import load_tokenizer
from pipelines.generator import Generator
from pipelines.tasks.evaluate import evaluate
from pipelines.tasks.run import run
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.files import read_json
from stage2_prior.code_store.store import CodeStore
from tests.support.tiny import HIERARCHY, compose

LAYOUT = CodeLayout(((4, 4), (8, 8)), (16, 8))


def test_the_store_and_the_samples_have_the_layout(tiny_hierarchy):
    tokenizer, _ = load_tokenizer(tiny_hierarchy / "tokenizer")
    assert tokenizer.layout == LAYOUT
    for split in ("train", "validation"):
        assert CodeStore.open(tiny_hierarchy / "codes" / split).layout == LAYOUT
    with np.load(tiny_hierarchy / "samples" / "images.npz") as samples:
        codes, images = torch.from_numpy(samples["codes"]), samples["images"]
    LAYOUT.check(codes)
    with torch.no_grad():
        drawn = ((tokenizer.decode(codes) + 1) * 127.5).round().byte().movedim(1, -1)
    np.testing.assert_allclose(drawn.numpy().astype(int), images.astype(int), atol=1)


def test_figures_are_told_by_level(tiny_hierarchy):
    first, second = (read_json(tiny_hierarchy / part / "metrics.json") for part in ("tokenizer", "prior"))
    assert {"usage_0", "usage_1", "perplexity_0", "perplexity_1"} <= set(first)
    assert second["nats"] == pytest.approx((16 * second["nats_0"] + 64 * second["nats_1"]) / 80, rel=1e-5)
    report = (tiny_hierarchy / "report.html").read_text()
    for words in ("80 codes of 16 + 8 in a 4×4 + 8×8 grid", "Nats per code by grid, held out", "grid 1 (8×8)"):
        assert words in report


def test_evaluation_tells_the_nats_of_each_level(tiny_hierarchy, tmp_path):
    shutil.copytree(tiny_hierarchy, tmp_path / "run")
    small = ["n=16", "batch_size=50", "network.steps=2", "network.width=4"]
    evaluate(compose(f"model={tmp_path / 'run'}", *small, command="evaluate"))
    (path,) = (tmp_path / "run" / "evaluation").rglob("evaluation.json")
    found, trained = read_json(path), read_json(tmp_path / "run" / "prior" / "metrics.json")
    for name in ("", "_0", "_1"):
        assert found["likelihood"][f"nats_per_code{name}"] == pytest.approx(trained[f"nats{name}"], rel=1e-3)
    assert {"mse_shuffled_codes_0", "mse_shuffled_codes_1"} < set(found["latents"])
    assert found["likelihood"]["uniform_bits_per_image"] == pytest.approx(16 * 4 + 64 * 3)


@pytest.mark.parametrize("prior", ["pixelcnn", "transformer"])
def test_sampling_and_completion_hold_for_both_priors(prior, tiny_hierarchy, tmp_path):
    folder = tiny_hierarchy
    if prior == "transformer":
        folder = tmp_path / "run"
        for part in ("tokenizer", "codes"):
            shutil.copytree(tiny_hierarchy / part, folder / part)
        small = ["stage2.model.width=16", "stage2.model.layers=1", "stage2.model.heads=2"]
        run(compose(*HIERARCHY[:-2], "stage2=transformer", *small, f"output={folder}"))
    generator = Generator.load(folder, device="cpu")
    chosen = {"guidance": 2.0, "guidance_schedule": "linear", "temperature": 0.8, "top_p": 0.9}
    samples = generator.sample(5, label=3, seed=4, **chosen)
    LAYOUT.check(samples.codes)
    apart = [generator.sample(n, label=3, seed=4, first=first, **chosen).codes for first, n in ((0, 2), (2, 3))]
    assert torch.equal(torch.cat(apart), samples.codes)
    keep = torch.zeros(80, dtype=torch.bool)
    keep[:8] = keep[16:48] = True  # the upper half of both grids
    done = generator.complete(samples.codes, keep, samples.labels, seed=9, candidates=2)
    assert torch.equal(done.codes[:, keep], samples.codes[:, keep])
    assert not torch.equal(done.codes, samples.codes)
    with pytest.raises(ValueError, match="larger images need codes of one grid"):
        generator.sample(1, image_size=(60, 60))


def test_commands_take_it(tiny_hierarchy, tmp_path, monkeypatch):
    picture = tmp_path / "digit.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)).save(picture)
    for command, words in (
        (complete, [f"images={picture}", "keep=top", "n=2", f"output={tmp_path / 'completed'}"]),
        (reconstruct, ["data=mnist5k", f"output={tmp_path / 'reconstructed'}"]),
    ):
        monkeypatch.setattr(sys, "argv", ["command", f"model={tiny_hierarchy}", *words])
        command.main()
    assert Image.open(tmp_path / "completed" / "grid.png").width > 100
    assert read_json(tmp_path / "reconstructed" / "metrics.json")["psnr"] > 0
