import copy

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.training.muon import MuonOptimization, matrices_of
from pipelines.training.optimization import Optimization
from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.model import PixelCNN
from stage2_prior.transformer.model import Transformer

LAYOUT = CodeLayout(((2, 3),), (6,))
CHOSEN = MuonOptimization(0.01, schedule="constant", weight_decay=0.1, betas=(0.9, 0.95))


def prior():
    torch.manual_seed(0)
    return Transformer(LAYOUT, 3, width=16, layers=2, heads=2, dropout=0.0)


def train(model, optimizer, steps):
    generator = torch.Generator().manual_seed(len(optimizer.state))
    for _ in range(steps):
        codes = torch.randint(6, (4, 6), generator=generator)
        optimizer.zero_grad()
        model.nats(codes, torch.arange(4) - 1).mean().backward()
        optimizer.step()


def test_matrices_of_blocks_move_by_muon_and_the_rest_by_adamw():
    ours, plain = prior(), prior()
    train(ours, CHOSEN(ours, 10)["optimizer"], 3)
    in_blocks = {name for name, value in plain.named_parameters() if name.startswith("blocks.") and value.ndim == 2}
    assert len(in_blocks) == len(matrices_of(plain)) > 0
    reference = [
        torch.optim.Muon(
            [value for name, value in plain.named_parameters() if name in in_blocks],
            0.01,
            weight_decay=0.1,
            adjust_lr_fn="match_rms_adamw",
        ),
        Optimization(0.01, weight_decay=0.1, betas=(0.9, 0.95)).adamw(
            value for name, value in plain.named_parameters() if name not in in_blocks
        ),
    ]

    class Both:
        state = ()
        zero_grad = staticmethod(plain.zero_grad)
        step = staticmethod(lambda: [each.step() for each in reference])

    train(plain, Both, 3)
    for (name, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_matrix_moves_along_all_its_directions_alike():
    """By a nearly orthogonal matrix: 0.2 √max(rows, columns) times the learning rate, by arXiv 2502.16982."""
    model = prior()
    optimizer = MuonOptimization(0.01, schedule="constant")(model, 10)["optimizer"]
    before = copy.deepcopy(model.state_dict())
    train(model, optimizer, 1)
    for name, value in model.named_parameters():
        if any(value is matrix for matrix in matrices_of(model)):
            moved = (before[name] - value.detach()).numpy() / (0.01 * 0.2 * np.sqrt(max(value.shape)))
            values = np.linalg.svd(moved, compute_uv=False)
            assert values.max() < 1.3, name
            assert np.median(values) > 0.6, name


def test_a_saved_state_goes_on_to_the_bit():
    whole, first = prior(), prior()
    train(whole, CHOSEN(whole, 10)["optimizer"], 2)
    saving = CHOSEN(first, 10)["optimizer"]
    train(first, saving, 2)
    state, rest = copy.deepcopy(saving.state_dict()), copy.deepcopy(first)
    train(first, saving, 2)
    going_on = CHOSEN(rest, 10)["optimizer"]
    going_on.load_state_dict(state)
    assert "fused" not in going_on.param_groups[0]  # or steps that are not finite would be left to its kernel
    train(rest, going_on, 2)
    for one, other in zip(first.parameters(), rest.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(next(whole.parameters()), next(first.parameters()))


def test_the_schedule_is_that_of_both():
    model = prior()
    configured = MuonOptimization(0.5, warmup_steps=2, schedule="constant")(model, 4)
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    train(model, optimizer, 1)
    scheduler.step()
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}


def test_what_has_no_matrices_in_layers_is_refused_by_name():
    with pytest.raises(ValueError, match="no layer of a Linear has a matrix: use stage2/optimizer=adamw"):
        CHOSEN.check(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="of a PixelCNN has a matrix"):
        CHOSEN.check(PixelCNN(LAYOUT, 3, width=8, layers=2))
    CHOSEN.check(prior())
    with pytest.raises(ValueError, match=r"momentum is in \[0, 1\), got 1"):
        MuonOptimization(0.1, momentum=1.0)
