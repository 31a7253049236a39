"""Quantizers, tokenizers, losses, likelihoods, augmentation and metrics on the second device."""

import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.data.augmentation import Augmentation, normalize, to_uint8
from stage1_vqvae.likelihoods import DiscretizedLogistic, Gaussian
from stage1_vqvae.losses import AbsoluteError, SquaredError
from stage1_vqvae.metrics import CodeUse, reconstruction_quality
from stage1_vqvae.quantizers import search
from stage1_vqvae.quantizers.fsq import FSQ
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae import VQVAE
from stage1_vqvae.vqvae2 import VQVAE2
from tests.support.families import FAMILIES, built, trained

SIZES = {"width": 8, "residual_width": 4}
LIKELIHOODS = {
    "no likelihood": lambda: None,
    "logistic": DiscretizedLogistic,
    "mixture of logistics": lambda: DiscretizedLogistic(3),
    "gaussian": Gaussian,
}
TOKENIZERS = {
    "vqvae": lambda **more: VQVAE((16, 16), 3, FSQ([4, 4]), downsample_factor=4, padding=4, **SIZES, **more),
    "vqvae2": lambda **more: VQVAE2(
        (16, 16), 3, [FSQ([4, 4]), FSQ([4, 3])], downsample_factors=(2, 4), norm="group", **SIZES, **more
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_training_steps(name, second):
    """Of a quantizer: the first starts its codebook, the third has codes to revive."""
    quantizer = second.put(built(name)).train()
    z = second.put(torch.randn(8, quantizer.dim, 6))
    with second.running():
        for _ in range(3):
            quantized = quantizer(z.clone().requires_grad_())
            (quantized.loss + quantized.vectors.square().mean()).backward()
            quantizer.step()
        quantizer(z)
        quantizer.discard()


@pytest.mark.parametrize("name", FAMILIES)
def test_codes_and_back(name, second):
    quantizer = second.put(trained(name))
    z = second.put(torch.randn(8, quantizer.dim, 6))
    with second.running(), torch.no_grad():
        quantized = quantizer(z)
        assert quantizer.lookup(quantized.codes).device == quantized.codes.device == z.device


@pytest.mark.parametrize("codes", [1, 5, 100, 5000])
def test_search(codes, second):
    """The search itself, of which a quantizer's pass shows no more than the result's shape."""
    points, codebook = second.put((torch.randn(700, 3), torch.randn(codes, 3)))
    with second.running():
        search._nearest._init_fn(points, codebook)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_tokenizer(tokenizer, likelihood, second):
    model = second.put(TOKENIZERS[tokenizer](likelihood=LIKELIHOODS[likelihood]()))
    images = second.put(torch.rand(4, 3, 16, 16) * 2 - 1)
    with second.running():
        passed = model(images)
        loss = model.likelihood.nats(passed.outputs, images).mean() if model.likelihood else passed.images.mean()
        (loss + passed.loss).backward()
        model.step()
        with torch.no_grad():
            codes = model.eval().encode(images)
            decoded = model.decode(codes)
            assert decoded.device == images.device
            if model.likelihood:
                model.nats(images, codes)


def test_larger_images(second):
    model = second.put(TOKENIZERS["vqvae"]().eval())
    layout = model.layout_of((24, 32))
    codes = second.put(torch.zeros(2, layout.length, dtype=torch.int64))
    with second.running(), torch.no_grad():
        assert model.decode(codes, (24, 32)).shape == (2, 3, 24, 32)


@pytest.mark.parametrize("objective", [SquaredError(0.3), AbsoluteError()])
def test_loss(objective, second):
    reconstruction, images = second.put((torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)))
    with second.running():
        objective(reconstruction.requires_grad_(), images).backward()


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), Augmentation(flip=True), Augmentation(shift=3), Augmentation(True, 2, 10.0, 0.1)],
    ids=["none", "flip", "shift", "all"],
)
def test_augmentation(augmentation, second):
    images, draws = second.put((torch.zeros(4, 12, 8, 3, dtype=torch.uint8), torch.arange(4)))
    with second.running():
        batch = augmentation(images, draws, seed=2**63 + 5)
        assert batch.device == images.device
        to_uint8(normalize(images))


def test_quality(second):
    """Metrics gather a split's batches without the host; they are computed once, at its end."""
    quality = second.put(reconstruction_quality())
    images = second.put(torch.rand(4, 3, 16, 16) * 2 - 1)
    with second.running():
        for _ in range(2):
            quality.update(images, images)


@pytest.mark.parametrize("grids", [((4, 4),), ((2, 2), (4, 4))], ids=["one", "two"])
def test_use_of_codes(grids, second):
    layout = CodeLayout(grids, (6,) * len(grids))
    use = second.put(CodeUse(layout))
    codes = second.put(torch.zeros(3, layout.length, dtype=torch.int64))
    with second.running():
        for _ in range(2):
            use.update(codes)
        use.compute()


def test_mixed_precision(second):
    model = second.put(VQVAE((16, 16), 3, EMAVectorQuantizer(4, 6), downsample_factor=4, **SIZES).eval())
    images = second.put(torch.rand(4, 3, 16, 16) * 2 - 1)
    with second.running(), torch.autocast(second.device.type, torch.bfloat16):
        model(images)
