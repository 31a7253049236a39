import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_vqvae.quantizers.vector import EMAVectorQuantizer, VectorQuantizer

both = pytest.mark.parametrize("family", [VectorQuantizer, EMAVectorQuantizer])


def started(family, codebook, **options):
    """A quantizer whose codebook is given."""
    quantizer = family(dim=codebook.shape[1], codebook_size=len(codebook), **options)
    with torch.no_grad():
        quantizer.codebook.copy_(codebook)
        quantizer.started.fill_(True)
    return quantizer


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@both
@settings(max_examples=20, deadline=None)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_codes_are_the_nearest_in_numpy(family, shape, seed):
    torch.manual_seed(seed)
    quantizer = started(family, torch.randn(7, 3)).eval()
    z = torch.randn(2, 3, *shape)
    quantized = quantizer(z)
    flat = np.moveaxis(z.numpy().astype(np.float64), 1, -1)
    distance = ((flat[..., None, :] - quantizer.codebook.detach().numpy()) ** 2).sum(-1)
    assert np.array_equal(quantized.codes.numpy(), distance.argmin(-1))
    assert torch.equal(quantizer.lookup(quantized.codes), quantized.vectors)
    assert quantized.vectors.shape == z.shape


def test_loss_is_equation_3_and_its_gradients_go_where_the_paper_says():
    torch.manual_seed(0)
    quantizer = started(VectorQuantizer, torch.randn(5, 3), commitment=0.7)
    z = torch.randn(2, 3, 4, requires_grad=True)
    quantized = quantizer(z)
    nearby = quantizer.codebook.detach()[quantized.codes].movedim(-1, 1)
    gap = ((z - nearby) ** 2).mean()
    assert quantized.loss.item() == pytest.approx(1.7 * gap.item(), rel=1e-5)
    quantized.loss.backward()
    # β weighs the encoder's side alone.
    torch.testing.assert_close(z.grad, 0.7 * 2 * (z.detach() - nearby) / z.numel())
    codebook_grad = np.zeros((5, 3))
    pulls = (2 * (nearby - z.detach()) / z.numel()).movedim(1, -1).reshape(-1, 3).numpy()
    np.add.at(codebook_grad, quantized.codes.flatten().numpy(), pulls)
    np.testing.assert_allclose(quantizer.codebook.grad.numpy(), codebook_grad, atol=1e-6)


@both
def test_gradients_pass_straight_through(family):
    quantizer = started(family, torch.randn(5, 3))
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    weight = torch.randn(2, 3, 4, 4)
    (quantizer(z).vectors * weight).sum().backward()
    assert torch.equal(z.grad, weight)


@both
def test_loss_per_sample_does_not_depend_on_the_batch(family):
    quantizer = started(family, torch.randn(5, 3)).eval()
    z = torch.randn(6, 3, 4)
    apart = torch.stack([quantizer(row[None]).loss for row in z]).mean()
    torch.testing.assert_close(quantizer(z).loss, apart)


def test_moving_averages_follow_the_papers_equations_in_numpy():
    torch.manual_seed(0)
    start = torch.randn(6, 2)
    start[5] = 100.0  # never used
    quantizer = started(EMAVectorQuantizer, start, decay=0.9, revive_below=0)
    counts, sums = np.zeros(6), np.zeros((6, 2))
    for step in range(1, 21):
        z = torch.randn(4, 2, 5)
        codes = quantizer(z).codes.numpy()
        quantizer.step()
        flat = z.movedim(1, -1).reshape(-1, 2).numpy()
        one_hot = np.eye(6)[codes.reshape(-1)]
        counts = 0.9 * counts + 0.1 * one_hot.sum(0)
        sums = 0.9 * sums + 0.1 * one_hot.T @ flat
        used = counts > 0
        expected = np.where(used[:, None], sums / np.where(used, counts, 1)[:, None], start.numpy())
        np.testing.assert_allclose(quantizer.codebook.numpy(), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(quantizer.usage.numpy(), counts / (1 - 0.9**step), rtol=1e-5)
    assert torch.equal(quantizer.codebook[5], start[5])


@both
def test_codebook_changes_in_step_alone(family):
    quantizer = started(family, torch.randn(5, 3))
    before = state(quantizer)
    first = quantizer(torch.randn(8, 3, 4))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert torch.equal(quantizer.lookup(first.codes).detach(), first.vectors.detach())


def test_micro_batches_accumulate_like_one_batch():
    torch.manual_seed(0)
    whole = started(EMAVectorQuantizer, torch.randn(5, 3))
    parts = copy.deepcopy(whole)
    for _ in range(3):
        z = torch.randn(8, 3, 4)
        whole(z)
        for part in z.chunk(4):
            parts(part)
        whole.step()
        parts.step()
    torch.testing.assert_close(whole.state_dict(), parts.state_dict())


@both
def test_evaluation_changes_nothing(family):
    quantizer = family(dim=3, codebook_size=5).eval()
    before = state(quantizer)
    one = quantizer(torch.ones(2, 3, 4)).codes
    quantizer.step()
    assert torch.equal(one, quantizer(torch.ones(2, 3, 4)).codes)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


@both
def test_starts_where_the_data_are(family):
    torch.manual_seed(0)
    centres = torch.tensor([[10.0, 0.0], [0.0, 10.0], [-10.0, 0.0], [0.0, -10.0]])
    z = (centres.repeat(16, 1) + 0.1 * torch.randn(64, 2)).T[None]  # [1, 2, 64]
    quantizer = family(dim=2, codebook_size=8)
    quantized = quantizer(z)
    assert (quantized.vectors - z).square().sum(1).max() < 1
    assert quantizer.started


@both
def test_dead_codes_are_revived_and_live(family):
    torch.manual_seed(0)
    codebook = torch.full((4, 2), 1000.0)
    codebook[0] = 0
    quantizer = started(family, codebook, decay=0.5, revive_every=5)
    z = torch.randn(16, 2, 8)
    for _ in range(20):
        quantizer(z)
        quantizer.step()
    assert quantizer.codebook.abs().max() < 100
    assert len(quantizer(z).codes.unique()) == 4


@both
def test_state_round_trips_exactly(family):
    torch.manual_seed(0)
    trained, fresh = family(dim=3, codebook_size=5), family(dim=3, codebook_size=5)
    for _ in range(3):
        trained(torch.randn(8, 3, 4))
        trained.step()
    fresh.load_state_dict(trained.state_dict())
    z = torch.randn(2, 3, 4)
    assert torch.equal(fresh.eval()(z).codes, trained.eval()(z).codes)
    assert torch.equal(fresh(z).vectors, trained(z).vectors)


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_codes_under_autocast_are_those_of_float32(family, dtype):
    torch.manual_seed(0)
    quantizer = started(family, torch.randn(64, 8)).eval()
    z = torch.randn(4, 8, 16)
    with torch.autocast("cpu", dtype=dtype):
        under_autocast = quantizer(z).codes
    assert torch.equal(under_autocast, quantizer(z).codes)


@both
def test_wrong_shapes_and_settings_are_refused(family):
    with pytest.raises(ValueError, match=r"\[B, 3, \*spatial\] expected, got \[2, 4, 4\]"):
        family(dim=3, codebook_size=5)(torch.randn(2, 4, 4))
    with pytest.raises(ValueError, match="decay"):
        family(decay=1.0)
    with pytest.raises(ValueError, match="codebook_size"):
        family(codebook_size=0)
