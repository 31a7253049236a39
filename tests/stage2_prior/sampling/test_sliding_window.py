import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.generator import Generator
from pipelines.tasks.sample import default_name, sample_command
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer
from stage1_vqvae.vqvae import VQVAE
from stage2_prior.prior import Prior
from stage2_prior.sampling.sampler import draw, image_noise, sample, sample_images
from stage2_prior.sampling.settings import SamplingSettings
from stage2_prior.sampling.sliding_window import sample_larger, sample_larger_images, starts
from stage2_prior.transformer.model import Transformer
from tests.support.tiny import compose

LAYOUT = CodeLayout(((4, 3),), (5,))


@pytest.fixture
def prior():
    torch.manual_seed(0)
    model = Transformer(LAYOUT, num_classes=2, width=16, layers=1, heads=2).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("settings", [SamplingSettings(), SamplingSettings(0.8, 3, 0.9, guidance=2.0)])
def test_at_the_training_size_it_is_plain_sampling(prior, settings):
    labels, noise = torch.tensor([0, 1, -1]), image_noise(0, range(3), 12)
    larger, plain = sample_larger(prior, labels, noise, (4, 3), settings), sample(prior, labels, noise, settings)
    assert torch.equal(larger.codes, plain.codes)
    assert torch.equal(larger.log_probs, plain.log_probs)


@pytest.mark.parametrize("shape", [(4, 8), (9, 3), (7, 5)])
@torch.no_grad()
def test_every_code_is_drawn_from_its_window(prior, shape):
    """Each code, by a full pass of the prior over its window, the codes still to be drawn left at 0."""
    height, width = shape
    labels, noise = torch.tensor([0, -1]), image_noise(1, range(2), height * width)
    drawn = sample_larger(prior, labels, noise, shape).codes
    assert drawn.shape == (2, height * width)
    assert drawn.min() >= 0
    assert drawn.max() < 5
    expected = torch.zeros(2, height, width, dtype=torch.int64)
    for index, (row, column) in enumerate(np.ndindex(height, width)):
        top, left = starts(height, 4)[row], starts(width, 3)[column]
        window = expected[:, top : top + 4, left : left + 3].flatten(1)
        logits = prior(window, labels)[:, (row - top) * 3 + column - left]
        expected[:, row, column] = draw(logits, noise[:, index])
    assert torch.equal(drawn, expected.flatten(1))


def test_an_image_is_a_function_of_seed_index_and_label(prior):
    labels = torch.tensor([0, 1, -1])
    together = sample_larger_images(prior, labels, 2, (5, 6)).codes
    apart = [sample_larger_images(prior, labels[i : i + 1], 2, (5, 6), first=i).codes for i in range(3)]
    assert torch.equal(together, torch.cat(apart))
    assert not torch.equal(together, sample_larger_images(prior, labels, 3, (5, 6)).codes)
    assert torch.equal(sample_larger_images(prior, labels, 2, (4, 3)).codes, sample_images(prior, labels, 2).codes)


@settings(max_examples=60)
@given(window=st.integers(1, 9), more=st.integers(0, 30))
def test_windows_hold_what_they_serve_with_context_around(window, more):
    size = window + more
    first = starts(size, window)
    for position, start in enumerate(first):
        assert 0 <= start <= size - window
        assert start <= position < start + window
        before, after = position - start, start + window - 1 - position
        assert before >= min(position, window // 4)
        assert after >= min(size - 1 - position, (window - 1) // 4)
    assert first == sorted(first)
    assert first[0] == 0
    assert first[-1] == size - window


class Counting(Prior):
    """A prior that knows nothing and counts its steps."""

    def __init__(self, layout):
        super().__init__(layout)
        self.steps = 0

    def predict(self, codes, labels):
        return torch.zeros(*codes.shape, self.layout.vocabulary)

    def incremental(self, labels):
        counting, plain = self, super().incremental(labels)

        class Steps:
            def next_logits(self, codes):
                counting.steps += 1
                return plain.next_logits(codes)

        return Steps()


def test_a_code_costs_about_three_steps():
    prior = Counting(CodeLayout(((8, 8),), (4,)))
    sample_larger(prior, torch.tensor([-1]), image_noise(0, [0], 32 * 32), (32, 32))
    assert prior.steps <= 3.5 * 32 * 32


@pytest.mark.parametrize(
    ("layout", "shape", "message"),
    [
        (LAYOUT, (3, 8), "at least the training grid's 4×3 codes"),
        (LAYOUT, (8, 2), "at least the training grid's 4×3 codes"),
        (CodeLayout(((4,),), (5,)), (4, 4), "one grid with two axes"),
        (CodeLayout(((2, 2), (4, 4)), (5, 5)), (8, 8), "one grid with two axes"),
    ],
)
def test_other_layouts_and_smaller_grids_are_refused(layout, shape, message):
    prior = Counting(layout)
    with pytest.raises(ValueError, match=message):
        sample_larger(prior, torch.tensor([-1]), torch.zeros(1, shape[0] * shape[1]), shape)


@pytest.mark.parametrize("padding", [0, 2])
@torch.no_grad()
def test_larger_grids_are_decoded(padding):
    quantizer = EMAVectorQuantizer(dim=4, codebook_size=5)
    size = (16 - 2 * padding, 12 - 2 * padding)
    model = VQVAE(size, 1, quantizer, width=8, residual_width=4, residual_layers=1, padding=padding).eval()
    codes = torch.randint(5, (2, 12))
    assert torch.equal(model.decode(codes, size), model.decode(codes))
    larger = (32 - 2 * padding, 40 - 2 * padding)
    assert model.layout_of(larger).grids == ((8, 10),)
    assert model.decode(torch.randint(5, (2, 80)), larger).shape == (2, 1, *larger)
    with pytest.raises(ValueError, match="not divisible by downsample_factor 4"):
        model.layout_of((33, 40))


def test_larger_images_of_a_run(tiny_run):
    generator = Generator.load(tiny_run, device="cpu")
    samples = generator.sample(3, seed=1, image_size=(28, 60))
    assert samples.images.shape == (3, 1, 28, 60)
    assert samples.codes.shape == (3, 4 * 8)
    assert torch.equal(generator.sample(2, seed=1, first=1, image_size=(28, 60)).images, samples.images[1:])
    assert torch.equal(generator.sample(2, image_size=(28, 28)).images, generator.sample(2).images)
    with pytest.raises(ValueError, match=r"30×28 \+ 2 × padding 2 is not divisible by downsample_factor 8: 28×28"):
        generator.sample(1, image_size=(30, 28))


def test_larger_images_by_command(tiny_run, tmp_path):
    output = tmp_path / "made"
    sample_command(compose(f"model={tiny_run}", f"output={output}", "n=2", "width=60", command="sample"))
    assert np.load(output / "images.npz")["images"].shape == (2, 28, 60, 1)
    settings = compose(f"model={tiny_run}", "n=2", "width=60", "height=28", command="sample")
    assert default_name(settings, {}) == "n2_seed0_height28_width60"
    with pytest.raises(ValueError, match="other settings \\(width: 60, now None"):
        sample_command(compose(f"model={tiny_run}", f"output={output}", "n=2", command="sample"))
    for size in ("width=20", "height=wide"):
        with pytest.raises(ValueError, match=r"at least the training grid's 4×4 codes|number of pixels"):
            sample_command(compose(f"model={tiny_run}", "n=2", size, f"output={tmp_path / 'no'}", command="sample"))
    assert not (tmp_path / "no").exists()
