import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.sampling import inpainting
from stage2_prior.sampling.batch_invariance import BASE
from stage2_prior.sampling.inpainting import (
    CANDIDATES,
    candidates_of,
    complete,
    complete_images,
    held_codes,
    held_later,
    survivors,
)
from stage2_prior.sampling.sampler import sample_images
from stage2_prior.transformer.model import Transformer
from tests.support.small_priors import build

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
    for candidates in (1, 3, None):
        first, second = (complete_images(prior, labels, known, seed, candidates).codes for seed in (0, 1))
        held = known >= 0
        assert torch.equal(first[held], known[held])
        assert torch.equal(second[held], known[held])
        assert not torch.equal(first, second)
        assert first.min() >= 0
        assert first.max() < 3


def test_nothing_held_is_sampling(prior):
    labels = torch.tensor([0, 1, 1, -1])
    nothing = torch.full((4, 3), -1)
    assert torch.equal(complete_images(prior, labels, nothing, 5).codes, sample_images(prior, labels, 5).codes)


def test_an_image_is_the_same_in_any_batch(prior):
    labels = torch.tensor([0, 1] * 5)
    known = torch.tensor([[-1, -1, 2]]).expand(10, -1)
    together = complete_images(prior, labels, known, 3, candidates=4).codes
    assert torch.equal(complete_images(prior, labels[:3], known[:3], 3, candidates=4).codes, together[:3])


def test_many_candidates_follow_the_prior_given_what_comes_after(prior):
    """Frequencies against the exact conditional distribution; a single candidate's do not follow it."""
    n, last = 1500, 2
    labels, known = torch.zeros(n, dtype=torch.int64), torch.tensor([[-1, -1, last]]).expand(n, -1)
    everything = torch.tensor(list(itertools.product(range(3), repeat=3)))
    joint = prior.log_prob(everything, labels[:27]).double().exp().detach().numpy().reshape(9, 3)
    exact = joint[:, last] / joint[:, last].sum() * n
    causal = joint.sum(1) / joint.sum() * n

    def counts(candidates):
        noise, resampling = (torch.rand(n, *shape, dtype=torch.float64) for shape in ((candidates, 3), (4,)))
        codes = complete(prior, labels, known, noise, resampling).codes.numpy()
        return np.bincount(codes[:, 0] * 3 + codes[:, 1], minlength=9)

    assert chisquare(counts(1), causal).pvalue > 1e-3
    assert chisquare(counts(1), exact).pvalue < 1e-6
    assert chisquare(counts(60), exact).pvalue > 1e-3


def test_wrong_candidates_and_labels_are_refused(prior):
    with pytest.raises(ValueError, match=r"labels are int64 \[1\], got torch.int64 \[2\]"):
        complete_images(prior, torch.tensor([0, 1]), torch.full((1, 3), -1), 0)
    with pytest.raises(ValueError, match="candidates is at least 1, got 0"):
        complete_images(prior, torch.tensor([0]), torch.full((1, 3), -1), 0, candidates=0)


def test_candidates_go_on_from_those_that_suit_the_held_codes():
    """Held codes between drawn ones: what is drawn follows the prior given all of them, also by resampling."""
    torch.manual_seed(1)
    layout, n = CodeLayout(((1, 5),), (3,)), 1500
    prior = Transformer(layout, num_classes=2, width=16, layers=1, heads=2).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    labels, known = torch.zeros(n, dtype=torch.int64), torch.tensor([[-1, 2, -1, 0, 1]]).expand(n, -1)
    everything = torch.tensor([[a, 2, b, 0, 1] for a in range(3) for b in range(3)])
    joint = prior.log_prob(everything, labels[:9]).double().exp().detach().numpy()
    noise, resampling = (torch.rand(n, *shape, dtype=torch.float64) for shape in ((60, 5), (6,)))
    codes = complete(prior, labels, known, noise, resampling).codes.numpy()
    assert chisquare(np.bincount(codes[:, 0] * 3 + codes[:, 2], minlength=9), joint / joint.sum() * n).pvalue > 1e-3


@pytest.mark.parametrize("kind", [Transformer, PixelCNN])
def test_candidates_that_go_on_keep_their_own_state(kind, monkeypatch):
    """What a code was drawn by is what the prior says of it after the codes before it, also after resampling."""
    std = {Transformer: 1.5, PixelCNN: 0.6}[kind]  # far from even, so that few candidates suit
    model, rows = build(kind, CodeLayout(((3, 4),), (5,)), std=std), []
    monkeypatch.setattr(inpainting, "survivors", lambda *words: rows.append(survivors(*words)) or rows[-1])
    labels, known = torch.tensor([0, 1, -1] * 4), torch.full((12, 12), -1)
    known[:, 1::3] = torch.randint(5, (12, 4))
    codes, log_probs = complete_images(model, labels, known, 0, candidates=8)
    assert sum(found is not None for found in rows) > 2
    with torch.no_grad():
        expected = -model.nats(codes, labels).masked_fill(known >= 0, 0.0)
    torch.testing.assert_close(log_probs, expected, atol=1e-4, rtol=1e-4)


def test_survivors_are_drawn_by_weight():
    weights = torch.tensor([[0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.25, 0.25], [0.0, 0.5, 0.5, 0.0]])
    log_weight = weights.double().log()
    kept = log_weight.clone()
    rows = survivors(kept, torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64)).view(3, 4)
    assert rows[0].tolist() == [0, 0, 0, 0]
    assert rows[1].tolist() == [4, 5, 6, 7]
    assert rows[2].tolist() == [8, 9, 10, 11]  # two of four are not too few
    assert (kept[0] == 0).all()
    assert torch.equal(kept[1:], log_weight[1:])
    assert survivors(log_weight[1:2], torch.zeros(1, dtype=torch.float64)) is None
    counts = torch.zeros(4)
    for u in torch.linspace(0, 1, 101, dtype=torch.float64)[:-1]:
        few = torch.tensor([[0.7, 0.1, 0.2, 0.0]], dtype=torch.float64).log()
        counts += torch.bincount(survivors(few, u[None]), minlength=4)
    torch.testing.assert_close(counts / 400, torch.tensor([0.7, 0.1, 0.2, 0.0]), atol=0.01, rtol=0)


def test_by_default_candidates_are_drawn_where_they_help(prior):
    rows, incremental = [], prior.incremental
    prior.incremental = lambda labels: rows.append(len(labels)) or incremental(labels)
    complete_images(prior, torch.tensor([0] * BASE), torch.tensor([[1, 2, -1]] * BASE), 0)
    assert max(rows) <= BASE
    complete_images(prior, torch.tensor([0]), torch.tensor([[-1, 2, -1]]), 0)
    assert rows[-1] == CANDIDATES


def test_candidates_are_for_codes_held_after_one_that_is_drawn():
    known = torch.tensor([[2, -1, 0], [0, 2, -1], [-1, -1, -1], [-1, 0, 1]])
    assert held_later(known).tolist() == [[False, False, True], [False] * 3, [False] * 3, [False, True, True]]
    assert candidates_of(known, None) == [CANDIDATES, 1, 1, CANDIDATES]
    assert candidates_of(known, 5) == [5] * 4


def test_what_is_not_kept_may_be_anything():
    layout = CodeLayout(((1, 3),), (4,))
    codes, keep = torch.tensor([[3, 99, 0], [1, -7, 2]]), torch.tensor([True, False, True])
    assert held_codes(codes, keep, layout).tolist() == [[3, -1, 0], [1, -1, 2]]
    assert held_codes(codes, keep.expand(2, -1), layout).tolist() == [[3, -1, 0], [1, -1, 2]]


@pytest.mark.parametrize(
    ("codes", "keep", "message"),
    [
        ([[0, 0, 4]], [True, True, True], "codes of grid"),
        ([[0, 0, 0]], [True, True], r"keep_mask is bool \[1, 3\] or \[3\], got torch.bool \[2\]"),
        ([[0, 0, 0]], [1, 1, 0], "got torch.int64"),
    ],
)
def test_wrong_masks_are_refused(codes, keep, message):
    with pytest.raises(ValueError, match=message):
        held_codes(torch.tensor(codes), torch.tensor(keep), CodeLayout(((1, 3),), (4,)))
