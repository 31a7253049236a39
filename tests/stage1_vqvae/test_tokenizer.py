"""What all tokenizers share, with one whose networks are the identity."""

import numpy as np
import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.levels import LevelTokenizer
from stage1_vqvae.quantizers.residual import Residual
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer


class Blocks(LevelTokenizer):
    """Quantizes means over blocks of pixels, at each level what is left over, and decodes to their sum."""

    def __init__(self, quantizers, cells, image_size=(4, 8), **options):
        super().__init__(image_size, 1, quantizers, cells, **options)
        self.quantizers = torch.nn.ModuleList(quantizers)

    @property
    def levels(self):
        return list(self.quantizers)

    def quantize(self, images):
        found, left = [], images
        for quantizer, cell in zip(self.levels, self.cells, strict=True):
            found.append(quantizer(torch.nn.functional.avg_pool2d(left, cell)))
            left = left - self.enlarged(found[-1].vectors, cell)
        return found

    def decode_latents(self, latents):
        return sum(self.enlarged(each, cell) for each, cell in zip(latents, self.cells, strict=True))

    def enlarged(self, vectors, cell):
        return vectors.repeat_interleave(cell, 2).repeat_interleave(cell, 3)


def quantizer(*values):
    made = EMAVectorQuantizer(1, len(values))
    made.codebook.copy_(torch.tensor(values)[:, None])
    return made


def two():
    return Blocks([quantizer(-0.5, 0.5), quantizer(-0.25, 0.0, 0.25)], (4, 2)).eval()


def test_codes_lie_grid_after_grid_in_raster_order():
    model = two()
    assert model.layout == CodeLayout(((1, 2), (2, 4)), (2, 3))
    fine = torch.tensor([[0, 1, 2, 0], [2, 1, 1, 0]])
    coarse = torch.tensor([[1, 0]])
    codes = torch.cat([coarse.flatten(), fine.flatten()])[None]
    pixels = np.kron(np.array([[0.5, -0.5]]), np.ones((4, 4)))
    pixels = pixels + np.kron(np.array([[-0.25, 0.0, 0.25, -0.25], [0.25, 0.0, 0.0, -0.25]]), np.ones((2, 2)))
    np.testing.assert_allclose(model.decode(codes)[0, 0].numpy(), pixels)
    assert torch.equal(model.encode(model.decode(codes)), codes)


def test_grids_of_a_residual_level_follow_one_another():
    deep = Residual(EMAVectorQuantizer(1, 5), depth=3)
    model = Blocks([quantizer(-0.5, 0.5), deep], (4, 2)).eval()
    assert model.layout == CodeLayout(((1, 2), *[(2, 4)] * 3), (2, 5, 5, 5))
    images = torch.rand(6, 1, 4, 8) * 2 - 1
    codes = model.encode(images)
    depths = model.quantize(images)[1].codes  # [B, 2, 4, 3]
    np.testing.assert_array_equal(codes[:, 2:].view(6, 3, 2, 4).numpy(), depths.movedim(-1, 1).numpy())
    assert torch.equal(model.decode(codes), model(images).images.clamp(-1, 1))


def test_the_losses_of_the_levels_add_up():
    model = two().train()
    images = torch.rand(6, 1, 4, 8) * 2 - 1
    expected = sum(level.loss.item() for level in model.quantize(images))
    assert model(images).loss.item() == pytest.approx(expected)


def test_padding_repeats_the_border_and_are_cropped():
    model = Blocks([quantizer(-0.5, 0.5)], (4,), (2, 6), padding=1).eval()
    assert model.layout.grids == ((1, 2),)
    images = torch.rand(3, 1, 2, 6) * 2 - 1
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    means = padded.reshape(3, 4, 2, 4).mean((1, 3))  # [B, 2]
    np.testing.assert_array_equal(model.encode(images).numpy(), (means > 0).astype(int))
    assert model.decode(model.encode(images)).shape == images.shape


def test_sizes_of_other_images():
    model = two()
    assert model.layout_of((8, 12)).grids == ((2, 3), (4, 6))
    with pytest.raises(ValueError, match="6×12 is not divisible by downsample_factor 4: 8×12 would work"):
        model.layout_of((6, 12))
    larger = torch.zeros(1, 6 + 24, dtype=torch.int64)
    assert model.decode(larger, (8, 12)).unique().tolist() == [-0.75]
    with pytest.raises(ValueError, match=r"codes of shape \[B, 10\] expected, got \[1, 30\]"):
        model.decode(larger)


def test_without_a_likelihood_there_are_no_nats():
    model = two()
    with pytest.raises(ValueError, match="no likelihood: train it with stage1/likelihood=discretized_logistic"):
        model.nats(torch.zeros(1, 1, 4, 8), torch.zeros(1, 10, dtype=torch.int64))
