import math

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.config.instantiate import build
from pipelines.posterior_collapse.bottlenecks import CodeLatents
from pipelines.posterior_collapse.latent_pixels import LatentPixelModel
from pipelines.tasks.collapse import collapse, use_of
from stage1_vqvae.files import read_json
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from tests.support.tiny import compose

SMALL = ["trainer.max_steps=2", "trainer.validate_every=2", "trainer.checkpoint_every=1", "autoencoder.width=4"]
SMALL += ["autoencoder.width=4", "autoencoder.layers=2", "data.image_size=[8,8]", "batch_size=8"]


@pytest.mark.parametrize("name", ["vae", "vqvae"])
def test_trains_measures_and_does_not_train_again(tmp_path, monkeypatch, capsys, name):
    settings = compose(f"experiment=collapse_{name}", f"output={tmp_path / name}", *SMALL, command="collapse")
    collapse(settings)
    metrics = read_json(tmp_path / name / "collapse.json")
    assert metrics["gain"] == pytest.approx(metrics["shuffled_nats"] - metrics["nats"])
    assert 0 <= metrics["drawn_error"] <= 1
    assert ("perplexity" in metrics) == (name == "vqvae")
    assert Image.open(tmp_path / name / "drawn.png").width > 100
    assert "its own latents" in capsys.readouterr().out
    monkeypatch.setattr("pipelines.tasks.collapse.fit", None)
    collapse(settings)
    assert read_json(tmp_path / name / "collapse.json") == metrics
    with pytest.raises(ValueError, match="seed: 0, now 1"):
        collapse({**settings, "seed": 1})


def test_both_experiments_have_the_same_encoder_and_decoder():
    models = {}
    for name in ("vae", "vqvae"):
        torch.manual_seed(0)
        model = build(compose(f"experiment=collapse_{name}", command="collapse")["autoencoder"])
        models[name] = {
            key: tuple(value.shape) for key, value in model.state_dict().items() if not key.startswith("bottleneck")
        }
    assert models["vae"] == models["vqvae"]


def test_rate_of_codes_is_their_entropy():
    model = LatentPixelModel(
        CodeLatents(EMAVectorQuantizer(dim=2, codebook_size=4)), (8, 8), encoder_width=4, width=4, layers=1
    )
    metrics = use_of(torch.tensor([[0, 0], [1, 3]]), model)
    shares = np.array([0.5, 0.25, 0.25])
    entropy = -(shares * np.log(shares)).sum()
    assert metrics == pytest.approx({"rate": 2 * entropy, "usage": 0.75, "perplexity": math.exp(entropy)})
