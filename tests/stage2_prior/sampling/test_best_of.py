import numpy as np
import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.sampling.batch_invariance import BASE
from stage2_prior.sampling.best_of import best_images
from stage2_prior.sampling.sampler import classes_in_turn, image_noise, sample_images
from stage2_prior.sampling.settings import SamplingSettings
from stage2_prior.transformer.model import Transformer
from tests.support.small_priors import build

THREE = SamplingSettings(best_of=3, temperature=1.3)


@pytest.fixture(params=[Transformer, PixelCNN])
def prior(request):
    return build(request.param)


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def log_prob(prior, codes, labels):
    """Log-probabilities of whole sequences from a prior's logits, in numpy: [B]."""
    with torch.no_grad():
        found = log_softmax(prior(codes, labels).double().numpy())
    return np.take_along_axis(found, codes.numpy()[..., None], -1)[..., 0].sum(1)


def test_the_drawing_is_kept_whose_class_the_prior_is_surest_of(prior):
    labels = classes_in_turn(24, range(2))
    drawings = [sample_images(prior, labels, 5, 3, THREE, attempt=attempt) for attempt in range(3)]
    evidence = [log_prob(prior, each.codes, labels) - log_prob(prior, each.codes, None) for each in drawings]
    kept = np.argmax(evidence, 0)
    assert set(kept) == {0, 1, 2}
    found = best_images(prior, labels, 5, 3, THREE)
    for row, attempt in enumerate(kept):
        assert torch.equal(found.codes[row], drawings[attempt].codes[row])
        assert torch.equal(found.log_probs[row], drawings[attempt].log_probs[row])


def test_one_drawing_is_that_of_sample_images(prior):
    labels, settings = classes_in_turn(5, range(2)), SamplingSettings(guidance=2.0)
    for found, expected in zip(best_images(prior, labels, 1), sample_images(prior, labels, 1), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(
        best_images(prior, labels, 1, 0, settings).codes, sample_images(prior, labels, 1, 0, settings).codes
    )


def test_an_image_is_the_same_in_any_batch(prior):
    model = build(type(prior), CodeLayout(((4, 4),), (16,)), std=0.3)
    labels = classes_in_turn(BASE + 5, range(2))
    labels[::3] = -1
    together = best_images(model, labels, 7, 0, THREE)
    parts = [best_images(model, labels[a:b], 7, a, THREE) for a, b in ((0, 4), (4, BASE + 2), (BASE + 2, BASE + 5))]
    for found, expected in zip(zip(*parts, strict=True), together, strict=True):
        assert torch.equal(torch.cat(found), expected)


def test_images_of_no_class_are_the_first_drawing(prior):
    labels = torch.tensor([-1, 0, -1, 1] * 4)
    first = sample_images(prior, labels, 2, 0, THREE).codes
    found = best_images(prior, labels, 2, 0, THREE).codes
    assert torch.equal(found[labels < 0], first[labels < 0])
    assert not torch.equal(found[labels >= 0], first[labels >= 0])
    drawn = []
    best_images(prior, torch.full((3,), -1), 2, 0, THREE, progress=drawn.append)
    assert drawn == [3]


def test_held_codes_are_held_in_every_drawing(prior):
    known = torch.full((12, 6), -1)
    known[:, :2] = torch.tensor([4, 1])
    found = best_images(prior, classes_in_turn(12, range(2)), 0, 0, THREE, known).codes
    assert (found[:, :2] == torch.tensor([4, 1])).all()
    assert len(found.unique(dim=0)) > 4


def test_progress_counts_images_and_not_drawings(prior):
    drawn, seen = [], []
    best_images(
        prior,
        classes_in_turn(20, range(2)),
        0,
        0,
        THREE,
        None,
        drawn.append,
        lambda images, codes: seen.append(codes.shape),
    )
    assert sum(drawn) == 20
    assert sum(shape[0] for shape in seen if shape[1] == 6) == 60


def test_drawings_have_noise_of_their_own():
    """The first one that of version 0.1.0."""
    first, second = (image_noise(3, range(2, 5), 4, attempt) for attempt in range(2))
    expected = [np.random.Generator(np.random.Philox(key=(3, image))).random(8) for image in range(2, 5)]
    np.testing.assert_array_equal(torch.cat([first, second], 1).numpy(), expected)
