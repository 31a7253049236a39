import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from stage1_vqvae.codes import CodeLayout
from stage2_prior.sampling.inpainting import complete, complete_images
from stage2_prior.sampling.sampler import sample_images
from stage2_prior.transformer.model import Transformer

LAYOUT = CodeLayout(((1, 3),), (3,))


@pytest.fixture
def prior():
    torch.manual_seed(0)
    model = Transformer(LAYOUT, num_classes=2, width=16, layers=1, heads=2).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model


def test_held_codes_are_held_and_others_differ_by_seed(prior):
    labels = torch.tensor([0, 1, -1] * 4)
    known = torch.tensor([[-1, 2, -1], [1, -1, -1], [-1, -1, 0]]).repeat(4, 1)
    for candidates in (1, 3):
        first, second = (complete_images(prior, labels, known, seed, candidates) for seed in (0, 1))
        held = known >= 0
        assert torch.equal(first[held], known[held])
        assert torch.equal(second[held], known[held])
        assert not torch.equal(first, second)
        assert first.min() >= 0
        assert first.max() < 3


def test_nothing_held_is_sampling(prior):
    labels = torch.tensor([0, 1, 1, -1])
    nothing = torch.full((4, 3), -1)
    assert torch.equal(complete_images(prior, labels, nothing, 5), sample_images(prior, labels, 5))


def test_an_image_is_the_same_in_any_batch(prior):
    labels = torch.tensor([0, 1] * 5)
    known = torch.tensor([[-1, -1, 2]]).expand(10, -1)
    together = complete_images(prior, labels, known, 3, candidates=4)
    assert torch.equal(complete_images(prior, labels[:3], known[:3], 3, candidates=4), together[:3])


def test_many_candidates_follow_the_prior_given_what_comes_after(prior):
    """Frequencies against the exact conditional distribution; a single candidate's do not follow it."""
    n, last = 1500, 2
    labels, known = torch.zeros(n, dtype=torch.int64), torch.tensor([[-1, -1, last]]).expand(n, -1)
    everything = torch.tensor(list(itertools.product(range(3), repeat=3)))
    joint = prior.log_prob(everything, labels[:27]).double().exp().detach().numpy().reshape(9, 3)
    exact = joint[:, last] / joint[:, last].sum() * n
    causal = joint.sum(1) / joint.sum() * n

    def counts(candidates):
        noise, choice = torch.rand(n, candidates, 3, dtype=torch.float64), torch.rand(n, dtype=torch.float64)
        codes = complete(prior, labels, known, noise, choice).numpy()
        return np.bincount(codes[:, 0] * 3 + codes[:, 1], minlength=9)

    assert chisquare(counts(1), causal).pvalue > 1e-3
    assert chisquare(counts(1), exact).pvalue < 1e-6
    assert chisquare(counts(60), exact).pvalue > 1e-3


def test_wrong_candidates_and_labels_are_refused(prior):
    with pytest.raises(ValueError, match=r"labels of shape \[1\] expected, got \[2\]"):
        complete_images(prior, torch.tensor([0, 1]), torch.full((1, 3), -1), 0)
    with pytest.raises(ValueError, match="candidates is at least 1, got 0"):
        complete_images(prior, torch.tensor([0]), torch.full((1, 3), -1), 0, candidates=0)
