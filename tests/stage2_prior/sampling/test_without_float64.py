"""Sampling on a device that has no float64, as Apple's GPUs."""

import numpy as np
import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.sampling.inpainting import complete
from stage2_prior.sampling.sampler import draw, image_noise, on_device, sample
from stage2_prior.sampling.settings import SamplingSettings
from stage2_prior.sampling.sliding_window import sample_larger
from stage2_prior.transformer.model import Transformer
from tests.support.no_float64 import NoFloat64, hide_float64


@pytest.fixture
def no_float64(monkeypatch):
    hide_float64(monkeypatch)


@pytest.fixture
def prior():
    torch.manual_seed(0)
    return Transformer(CodeLayout(((2, 3),), (6,)), 3, width=16, layers=2, heads=2).eval()


CONTROLS = [{}, {"top_p": 0.8}, {"temperature": 0.7, "top_k": 3, "min_p": 0.05, "guidance": 1.5}]


@pytest.mark.parametrize("controls", CONTROLS)
def test_codes_are_drawn_in_float32(prior, no_float64, monkeypatch, controls):
    noise, labels, settings = image_noise(0, range(4), 6), torch.arange(4) % 3, SamplingSettings(**controls)
    with NoFloat64():
        found = sample(prior, labels, noise, settings).codes
    monkeypatch.undo()
    expected = sample(prior, labels, noise, settings).codes
    assert torch.equal(found, expected)  # uniform numbers that float32 would tell apart are rare


def test_completions_are_drawn_in_float32(prior, no_float64):
    known = torch.full((2, 6), -1)
    known[:, 3] = 2
    noise, resampling = image_noise(0, range(6), 6).view(2, 3, 6), image_noise(1, range(2), 7)
    with NoFloat64():
        codes = complete(prior, torch.tensor([0, 1]), known, noise, resampling).codes
    assert codes[:, 3].tolist() == [2, 2]
    assert (codes >= 0).all()


def test_larger_images_are_drawn_in_float32(prior, no_float64):
    noise = image_noise(0, range(2), 20)
    with NoFloat64():
        codes = sample_larger(prior, torch.tensor([0, 1]), noise, (4, 5)).codes
    assert codes.shape == (2, 20)


def test_noise_is_never_rounded_up_to_one(no_float64):
    noise = torch.tensor([0.0, 0.5, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    rounded = on_device(noise, torch.device("cpu"))
    assert rounded.dtype == torch.float32
    assert (rounded < 1).all()
    logits = torch.tensor([[0.0, 0.0, -torch.inf]]).expand(3, 3)
    assert draw(logits, rounded).tolist() == [0, 1, 1]
