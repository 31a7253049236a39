"""Metrics against loops over images, with tiny models whose codes can be enumerated."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import logistic

from pipelines.evaluation.features import Features
from pipelines.evaluation.tokenizer import Subject, measure_tokenizer, most_common, with_partners, wrong_codes
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.data.augmentation import Augmentation, normalize
from stage1_vqvae.data.dataset import ImageData, ImageSplit, LabelledImages
from stage1_vqvae.likelihoods import DiscretizedLogistic
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae import VQVAE
from stage2_prior.prior import Prior
from tests.support.distributed import on_two_ranks

N, CLASSES = 13, 3


class ArrayReader:
    def __init__(self, pixels):
        self.pixels = pixels

    def read(self, rows):
        return self.pixels[rows]


class TablePrior(Prior):
    """Codes independent, of a distribution for each class and position."""

    def __init__(self, layout, num_classes):
        super().__init__(layout, num_classes)
        generator = torch.Generator().manual_seed(5)
        self.table = torch.nn.Parameter(
            torch.randn(num_classes + 1, layout.length, layout.vocabulary, generator=generator)
        )

    def predict(self, codes, labels):
        return self.table[labels][:, : codes.shape[1]]


class Means(Features):
    suffix, dim = "own_features", 2

    def __call__(self, images):
        return torch.stack([images.mean((1, 2, 3)), images.std((1, 2, 3))], dim=1)


def subject(likelihood=None, prior=True):
    torch.manual_seed(0)
    shape = {"width": 4, "residual_width": 2, "residual_layers": 1, "downsample_factor": 4}
    model = VQVAE((12, 12), 1, EMAVectorQuantizer(dim=2, codebook_size=4), **shape, likelihood=likelihood).eval()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (N, 12, 12, 1), dtype=np.uint8)
    pixels[:, :6] //= rng.integers(1, 8, (N, 1, 1, 1), dtype=np.uint8)
    split = ImageSplit(
        LabelledImages(ArrayReader(pixels), np.arange(N) % CLASSES, np.zeros((N, 32), np.uint8)), np.arange(N), {}
    )
    names = ("a", "b", "c")
    images = ImageData(split, split, names, (12, 12), 1, Augmentation(), 0)
    return Subject(model, TablePrior(model.layout, CLASSES) if prior else None, names if prior else (), images, 4, 0)


def everything(found):
    return normalize(found.images.validation.__getitems__(list(range(N)))["images"])


@torch.no_grad()
def test_bits_per_dimension_are_those_of_a_count_by_hand():
    """-log2 [p(x | z_q(x)) p(codes | class) / classes] / dims, image by image and pixel by pixel."""
    found = subject(DiscretizedLogistic())
    images = everything(found)
    model, prior = found.tokenizer, found.prior
    codes = model.encode(images)
    outputs = model.decoder(model.quantizer.lookup(codes.view(N, 3, 3))).double().numpy()
    shares = torch.log_softmax(prior.table, dim=2).exp().double().numpy()
    bits = {"pixels": [], "prior": []}
    for number in range(N):
        probability = 1.0
        for row in range(12):
            for column in range(12):
                place, log_scale = outputs[number, :, row, column]
                level = round(float((images[number, 0, row, column] + 1) * 127.5))
                low = -np.inf if level == 0 else (level - 0.5) / 127.5 - 1
                high = np.inf if level == 255 else (level + 0.5) / 127.5 - 1
                scale = math.exp(max(log_scale, -7))
                probability += math.log2(logistic.cdf(high, place, scale) - logistic.cdf(low, place, scale))
        bits["pixels"].append(-(probability - 1.0))
        chosen = [shares[number % CLASSES, place, code] for place, code in enumerate(codes[number].tolist())]
        bits["prior"].append(-sum(map(math.log2, chosen)))
    metrics = measure_tokenizer(found, Means())["likelihood"]
    dims = 12 * 12
    pixels, rate = np.mean(bits["pixels"]), np.mean(bits["prior"])
    assert metrics["bits_per_dim_of_pixels"] == pytest.approx(pixels / dims, rel=1e-4)
    assert metrics["prior_bits_per_image"] == pytest.approx(rate, rel=1e-4)
    assert metrics["bits_per_code"] == pytest.approx(rate / 9, rel=1e-4)
    assert metrics["bits_per_dim_with_prior"] == pytest.approx((pixels + rate + math.log2(3)) / dims, rel=1e-4)
    assert metrics["bits_per_dim_with_uniform"] == pytest.approx((pixels + 9 * 2) / dims, rel=1e-4)


@torch.no_grad()
def test_errors_with_wrong_codes_are_those_of_a_loop():
    found = subject(prior=False)
    images = everything(found)
    model = found.tokenizer
    codes = model.encode(images)
    others = torch.cat([other for _, _, other in with_partners(found)])
    numbers = [next(n for n in range(N) if torch.equal(images[n], other)) for other in others]
    assert sorted(numbers) == list(range(N))
    assert all(number != other for number, other in enumerate(numbers))
    common = torch.tensor([np.bincount(column, minlength=4).argmax() for column in codes.T.numpy()])
    assert torch.equal(most_common(found), common)
    metrics = measure_tokenizer(found, Means())
    for name, given in (("right", codes), ("shuffled", codes[numbers]), ("common", common.expand(N, -1))):
        expected = (model.decode(given) - images).square().mean().item()
        assert metrics["latents"][f"mse_{name}_codes"] == pytest.approx(expected, rel=1e-4)
    assert "nats_per_code" not in metrics["likelihood"]
    assert "bits_per_dim_of_pixels" not in metrics["likelihood"]


def _measure(rank):
    torch.set_num_threads(1)
    found = measure_tokenizer(subject(DiscretizedLogistic(2)), Means())
    return {f"{section}/{name}": value for section, part in found.items() for name, value in part.items()}


def test_two_processes_find_what_one_finds():
    first, second = on_two_ranks(_measure)
    alone = _measure(0)
    assert first == second
    assert first == pytest.approx(alone, rel=1e-4)


def test_codes_of_one_grid_are_swapped_at_a_time():
    layout = CodeLayout(((1, 1), (1, 2)), (9, 9))
    own, others, common = (
        torch.tensor([[1, 2, 3], [4, 5, 6]]),
        torch.tensor([[7, 7, 7], [8, 8, 8]]),
        torch.tensor([0, 1, 2]),
    )
    found = {name: codes.tolist() for name, codes in wrong_codes(layout, own, others, common).items()}
    assert found == {
        "shuffled_codes": others.tolist(),
        "common_codes": [[0, 1, 2], [0, 1, 2]],
        "shuffled_codes_0": [[7, 2, 3], [8, 5, 6]],
        "shuffled_codes_1": [[1, 7, 7], [4, 8, 8]],
    }
    assert list(wrong_codes(CodeLayout(((1, 3),), (9,)), own, others, common)) == ["shuffled_codes", "common_codes"]


def test_layouts_of_several_grids_have_their_own_uniform_bits():
    layout = CodeLayout(((1, 2), (2, 2)), (4, 16))
    assert float(layout.codebook_size_at().double().log2().sum()) == 2 * 2 + 4 * 4
