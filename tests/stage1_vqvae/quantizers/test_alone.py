"""Quantizers in a training loop of a user's own, without this project's pipeline."""

import gc
import warnings

import pytest
import torch
from torch import nn

from stage1_vqvae.quantizers import (
    FSQ,
    ChannelLast,
    DiVeQ,
    EMAVectorQuantizer,
    GumbelSoftmax,
    MultiHead,
    Product,
    Projected,
    Residual,
    SimVQ,
    VectorQuantizer,
)
from stage1_vqvae.quantizers import vector as module
from tests.support.families import FAMILIES, built, train_step, trained

every = pytest.mark.parametrize("name", FAMILIES)
nearest = pytest.mark.parametrize("family", [EMAVectorQuantizer, VectorQuantizer, DiVeQ])


def state(quantizer):
    return {name: value.clone() for name, value in quantizer.state_dict().items()}


@every
def test_the_result_unpacks(name):
    quantizer = trained(name)
    found = quantizer(torch.randn(3, quantizer.dim, 7))
    vectors, codes, loss = found
    assert vectors is found.vectors
    assert codes is found.codes
    assert loss is found.loss


@every
def test_rows_of_vectors_are_quantized_as_a_grid_of_them_is(name):
    quantizer = trained(name)
    depth = len(quantizer.codebook_sizes)
    rows = torch.randn(6, quantizer.dim)
    found = quantizer(rows)
    assert found.vectors.shape == rows.shape
    assert found.codes.shape == (6, *[depth] * (depth > 1))
    as_grid = quantizer(rows.T[None])
    assert torch.equal(as_grid.codes[0], found.codes)
    torch.testing.assert_close(as_grid.vectors[0].T, found.vectors)
    assert torch.equal(quantizer.lookup(found.codes), found.vectors)
    train_step(quantizer.train(), rows)


@every
def test_channels_may_come_last(name):
    quantizer = trained(name)
    wrapped = ChannelLast(quantizer)
    z = torch.randn(3, 4, 5, quantizer.dim)
    found, expected = wrapped(z), quantizer(z.movedim(-1, 1))
    assert torch.equal(found.vectors, expected.vectors.movedim(1, -1))
    assert torch.equal(found.codes, expected.codes)
    assert found.loss == expected.loss
    assert torch.equal(wrapped.lookup(found.codes), found.vectors)
    assert wrapped.codebook_sizes == quantizer.codebook_sizes


def test_which_axis_holds_the_channels_is_never_guessed():
    with pytest.raises(ValueError, match=r"\[2, 7, 3\] \(for \[B, \*spatial, D\] wrap the quantizer in ChannelLast\)"):
        FSQ([3, 3, 3])(torch.zeros(2, 7, 3))
    with pytest.raises(ValueError, match=r"vectors \[B, \*spatial, 3\] expected, got \[2, 3, 7\]"):
        ChannelLast(FSQ([3, 3, 3]))(torch.zeros(2, 3, 7))


@every
def test_a_frozen_quantizer_stays_as_it_is_and_trains_on_later(name):
    quantizer = trained(name).train()
    quantizer.freeze()
    before = state(quantizer)
    for _ in range(3):
        z = torch.randn(8, quantizer.dim, 6, requires_grad=True)
        vectors, _, loss = quantizer(z)
        (vectors.square().sum() + loss).backward()
        assert z.grad.abs().sum() > 0  # the encoder learns
        quantizer.step()
    changed = {name for name, value in state(quantizer).items() if not torch.equal(value, before[name])}
    assert changed <= {"steps"}  # of Gumbel's temperature
    assert all(parameter.grad is None for parameter in quantizer.parameters())
    quantizer.unfreeze()
    assert all(parameter.requires_grad for parameter in quantizer.parameters())
    if before:
        train_step(quantizer, torch.randn(8, quantizer.dim, 6))
        assert any(not torch.equal(value, before[name]) for name, value in state(quantizer).items())


@pytest.mark.parametrize("family", [EMAVectorQuantizer, SimVQ])
def test_a_frozen_quantizer_does_not_start_at_its_data(family):
    quantizer = family(dim=3, codebook_size=5)
    quantizer.freeze()
    before = state(quantizer)
    quantizer(torch.randn(4, 3, 6))
    quantizer.step()
    assert all(torch.equal(value, before[name]) for name, value in state(quantizer).items())
    quantizer.unfreeze()
    quantizer(torch.randn(4, 3, 6))
    assert quantizer.started


def test_freezing_reaches_the_parts_of_composites():
    quantizer = Residual(Product(Projected(EMAVectorQuantizer(2, 5), 3), 2), 2)
    quantizer(torch.randn(4, 6, 5))
    quantizer.step()
    quantizer.freeze()
    before = state(quantizer)
    quantizer(torch.randn(4, 6, 5))
    quantizer.step()
    assert all(torch.equal(value, before[name]) for name, value in state(quantizer).items())


@pytest.mark.parametrize(
    "wrap", [lambda inner: inner, lambda inner: MultiHead(inner, 2), lambda inner: Residual(inner, 2)]
)
def test_steps_follow_an_optimiser_by_themselves(wrap):
    torch.manual_seed(0)
    alone, told = (wrap(EMAVectorQuantizer(4, 6, revive_after=2.0, init="random")) for _ in range(2))
    told.load_state_dict(alone.state_dict())
    encoder = nn.Linear(4, alone.dim)
    optimizer = torch.optim.SGD(encoder.parameters(), 0.1)
    handle = alone.step_after(optimizer)
    for _ in range(4):
        z = encoder(torch.randn(32, 4))
        (alone(z).vectors.square().mean()).backward()
        told(z.detach())
        optimizer.step()
        told.step()
    assert all(torch.equal(value, told.state_dict()[name]) for name, value in state(alone).items())
    handle.remove()
    before = state(alone)
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in state(alone).items())


@nearest
def test_a_missing_step_is_warned_of_once_and_holds_no_more_memory(family, monkeypatch):
    monkeypatch.setattr(module, "ROWS_KEPT", 100)
    quantizer = family(dim=3, codebook_size=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(99):
            quantizer(torch.randn(2, 3, 12))
    with pytest.warns(UserWarning, match=rf"{family.__name__}: 100 training passes without step\(\).*step_after"):
        quantizer(torch.randn(2, 3, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(150):
            quantizer(torch.randn(2, 3, 12))
    gc.collect()
    held = [each for each in gc.get_objects() if isinstance(each, torch.Tensor) and each.shape == (24, 3)]
    assert len(held) < 8  # four passes of 24 vectors, of which one is at work
    quantizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(300):
            quantizer(torch.randn(2, 3, 12))
            quantizer.step()


def test_evaluation_and_quantizers_without_a_codebook_of_their_own_need_no_step():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for quantizer in (EMAVectorQuantizer(3, 5).eval(), FSQ([3, 3, 3]), GumbelSoftmax(3, 5), SimVQ(3, 5)):
            for _ in range(150):
                quantizer(torch.randn(2, 3, 4))


@nearest
def test_a_codebook_set_by_hand_is_the_start(family):
    codebook = torch.randn(5, 3)
    for quantizer in (family(3, 5, init=codebook), family(3, 5)):
        quantizer.set_codebook(codebook)
        found = quantizer(torch.randn(4, 3, 6) + 100)
        assert torch.equal(quantizer.codebook.detach(), codebook)
        assert torch.equal(quantizer.lookup(torch.arange(5)).detach(), codebook)
        assert found.codes.max() < 5
    with pytest.raises(ValueError, match=r"a codebook \[5, 3\] expected, got \[3, 5\]"):
        quantizer.set_codebook(codebook.T)
    with pytest.raises(ValueError, match=r"a codebook \[5, 3\] expected, got \[4, 3\]"):
        family(3, 5, init=codebook[:4])


@nearest
def test_a_random_start_stays_until_the_first_step(family):
    quantizer = family(3, 5, init="random")
    before = quantizer.codebook.detach().clone()
    quantizer(torch.randn(4, 3, 6) + 100)
    assert torch.equal(quantizer.codebook, before)
    torch.testing.assert_close(
        family(64, 4096, init="random").codebook.norm(dim=1).mean().item(), 1.0, atol=0.01, rtol=0
    )
    with pytest.raises(ValueError, match=r"init is kmeans or random or a tensor \[K, D\], got 'zeros'"):
        family(3, 5, init="zeros")


@nearest
def test_setting_the_codebook_of_a_trained_quantizer_forgets_the_use_of_the_old_one(family):
    torch.manual_seed(0)
    quantizer, fresh = family(3, 5), family(3, 5)
    for _ in range(3):
        quantizer(torch.randn(4, 3, 6))
        quantizer.step()
    quantizer(torch.randn(4, 3, 6))  # gathered for the old one
    codebook = torch.randn(5, 3)
    for each in (quantizer, fresh):
        each.set_codebook(codebook)
    z = torch.randn(4, 3, 6)
    for each in (quantizer, fresh):
        each(z)
        each.step()
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in state(quantizer).items())


def test_a_projected_quantizer_works_in_its_own_space():
    torch.manual_seed(0)
    inner = FSQ([5, 5])
    quantizer = Projected(inner, dim=6)
    z = torch.randn(3, 6, 4)
    found = quantizer(z)
    weight, bias = quantizer.project_in.weight, quantizer.project_in.bias
    projected = torch.einsum("di,bin->bdn", weight, z) + bias[:, None]
    assert torch.equal(found.codes, inner(projected).codes)
    weight, bias = quantizer.project_out.weight, quantizer.project_out.bias
    expected = torch.einsum("di,bin->bdn", weight, inner(projected).vectors) + bias[:, None]
    torch.testing.assert_close(found.vectors, expected)
    with pytest.raises(ValueError, match="dim is at least 1, got 0"):
        Projected(inner, dim=0)


def test_the_first_depths_of_residual_codes_are_a_coarser_vector():
    torch.manual_seed(0)
    quantizer = Residual(EMAVectorQuantizer(3, 8), depth=4)
    z = torch.randn(16, 3, 10)
    for _ in range(4):
        quantizer(z)
        quantizer.step()
    vectors, codes, _ = quantizer.eval()(z)
    sums = quantizer.lookup_partial_sums(codes)
    expected = torch.zeros_like(z)
    for depth, inner in enumerate(quantizer.parts()):
        expected = expected + inner.lookup(codes[..., depth])
        assert torch.equal(quantizer.lookup(codes[..., : depth + 1]), expected)
        assert torch.equal(sums[depth], expected)
    assert torch.equal(sums[-1], vectors)
    errors = [(z - partial).square().mean() for partial in sums]
    assert errors == sorted(errors, reverse=True)


@every
def test_is_built_without_memory(name):
    with torch.device("meta"):
        quantizer = built(name)
    assert {value.device.type for value in (*quantizer.parameters(), *quantizer.buffers())} <= {"meta"}
