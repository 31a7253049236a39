import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_vqvae.quantizers.vector import EMAVectorQuantizer, VectorQuantizer
from stage1_vqvae.vqvae import VQVAE
from tests.support.vector_quantizers import both, started

options = pytest.mark.parametrize(
    "options", [{}, {"metric": "cosine"}, {"gradient": "rotation"}], ids=["plain", "cosine", "rotation"]
)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def unit(vectors):
    """Vectors over their lengths, along the last axis, in numpy."""
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@both
@settings(max_examples=20)
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


@both
@settings(max_examples=20)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_cosine_codes_have_the_smallest_angle_in_numpy(family, shape, seed):
    torch.manual_seed(seed)
    quantizer = started(family, torch.randn(7, 3) * torch.logspace(-3, 3, 7)[:, None], metric="cosine").eval()
    z = torch.randn(2, 3, *shape)
    quantized = quantizer(z)
    directions = unit(quantizer.codebook.detach())
    cosine = np.moveaxis(z.numpy(), 1, -1) @ directions.T
    assert np.array_equal(quantized.codes.numpy(), cosine.argmax(-1))
    assert torch.equal(quantizer.lookup(quantized.codes), quantized.vectors)
    vectors = np.moveaxis(quantized.vectors.detach().numpy(), 1, -1)
    np.testing.assert_allclose(vectors, directions[quantized.codes.numpy()], atol=1e-6)


def test_cosine_loss_is_of_directions_and_its_gradient_turns_only():
    torch.manual_seed(0)
    quantizer = started(VectorQuantizer, torch.randn(5, 3), commitment_cost=0.7, metric="cosine")
    z = (10 * torch.randn(2, 3, 4)).requires_grad_()
    quantized = quantizer(z)
    quantized.loss.backward()
    directions = unit(quantizer.codebook.detach())[quantized.codes.numpy()]
    gap = ((unit(z.detach().movedim(1, -1)) - directions) ** 2).mean()
    assert quantized.loss.item() == pytest.approx(1.7 * gap, rel=1e-5)
    torch.testing.assert_close((z.grad * z).sum(1), torch.zeros(2, 4), atol=1e-6, rtol=0)
    codebook = quantizer.codebook
    torch.testing.assert_close((codebook.grad * codebook).sum(1), torch.zeros(5), atol=1e-6, rtol=0)


@both
def test_cosine_stands_vectors_without_direction(family):
    quantizer = started(family, torch.cat([torch.zeros(1, 3), torch.eye(3)]), metric="cosine")
    z = torch.zeros(1, 3, 2, requires_grad=True)
    quantized = quantizer(z)
    (quantized.loss + quantized.vectors.sum()).backward()
    quantizer.step()
    assert torch.isfinite(z.grad).all()
    assert all(torch.isfinite(value).all() for value in quantizer.state_dict().values())
    assert torch.isfinite(quantizer.lookup(torch.arange(4)[None])).all()


def test_rotation_gradient_keeps_its_angle_to_the_vector():
    torch.manual_seed(0)
    quantizer = started(VectorQuantizer, torch.randn(5, 3), gradient="rotation")
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    weight = torch.randn(2, 3, 4, 4)
    vectors = quantizer(z).vectors
    (vectors * weight).sum().backward()
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(z.grad, z.detach(), dim=1), cosine(weight, vectors.detach(), dim=1))


def test_loss_is_equation_3_and_its_gradients_go_where_the_paper_says():
    torch.manual_seed(0)
    quantizer = started(VectorQuantizer, torch.randn(5, 3), commitment_cost=0.7)
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


@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_moving_averages_leave_the_loss_to_the_commitment_alone(gradient):
    torch.manual_seed(0)
    quantizer = started(EMAVectorQuantizer, torch.randn(5, 3), commitment_cost=0.7, gradient=gradient)
    z = torch.randn(2, 3, 4, requires_grad=True)
    quantized = quantizer(z)
    gap = z.detach() - quantizer.codebook[quantized.codes].movedim(-1, 1)
    assert quantized.loss.item() == pytest.approx(0.7 * (gap.double().numpy() ** 2).mean(), rel=1e-5)
    quantized.loss.backward()
    torch.testing.assert_close(z.grad, 0.7 * 2 * gap / z.numel())
    assert not list(quantizer.parameters())
    quantizer.drop_commitment()
    assert quantizer(z).loss == 0


@both
def test_gradients_pass_straight_through(family):
    quantizer = started(family, torch.randn(5, 3))
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    weight = torch.randn(2, 3, 4, 4)
    (quantizer(z).vectors * weight).sum().backward()
    assert torch.equal(z.grad, weight)


@both
@options
def test_loss_per_sample_does_not_depend_on_the_batch(family, options):
    quantizer = started(family, torch.randn(5, 3), **options).eval()
    z = torch.randn(6, 3, 4, requires_grad=True)
    apart = torch.stack([quantizer(row[None]).loss for row in z]).mean()
    (gradient_apart,) = torch.autograd.grad(apart, z)
    together = quantizer(z).loss
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(torch.autograd.grad(together, z)[0], gradient_apart)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_moving_averages_follow_the_papers_equations_in_numpy(metric):
    torch.manual_seed(0)
    start = torch.randn(6, 3)
    start[5] = torch.tensor([0.0, 0.0, -100.0])  # never used: all vectors look the other way
    quantizer = started(EMAVectorQuantizer, start, decay=0.9, revive_after=0.0, metric=metric)
    counts, sums = np.zeros(6), np.zeros((6, 3))
    for step in range(1, 21):
        z = torch.randn(4, 3, 5)
        z[:, 2] = z[:, 2].abs() + 5
        codes = quantizer(z).codes.numpy()
        quantizer.step()
        flat = z.movedim(1, -1).reshape(-1, 3).numpy()
        flat = unit(flat) if metric == "cosine" else flat
        one_hot = np.eye(6)[codes.reshape(-1)]
        counts = 0.9 * counts + 0.1 * one_hot.sum(0)
        sums = 0.9 * sums + 0.1 * one_hot.T @ flat
        used = counts > 0
        expected = np.where(used[:, None], sums / np.where(used, counts, 1)[:, None], start.numpy())
        np.testing.assert_allclose(quantizer.codebook.numpy(), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(quantizer.usage.numpy(), counts / (1 - 0.9**step), rtol=1e-5)
    assert torch.equal(quantizer.codebook[5], start[5])


def test_unused_codes_stay_where_they_are_after_the_first_step():
    torch.manual_seed(0)
    quantizer = started(EMAVectorQuantizer, torch.randn(64, 3))
    before = quantizer.codebook.clone()
    codes = quantizer(torch.randn(2, 3, 8)).codes
    quantizer.step()
    unused = torch.ones(64, dtype=torch.bool)
    unused[codes.flatten()] = False
    assert torch.equal(quantizer.codebook[unused], before[unused])
    assert not torch.equal(quantizer.codebook[~unused], before[~unused])
    assert torch.equal(quantizer.usage, torch.bincount(codes.flatten(), minlength=64).float())


@both
@options
def test_codebook_changes_in_step_alone(family, options):
    quantizer = started(family, torch.randn(5, 3), **options)
    before = state(quantizer)
    first = quantizer(torch.randn(8, 3, 4))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    assert torch.equal(quantizer.lookup(first.codes).detach(), first.vectors.detach())


def test_micro_batches_accumulate_like_one_batch():
    torch.manual_seed(0)
    whole = started(EMAVectorQuantizer, torch.randn(12, 3), revive_after=4.0)  # some die and are revived
    parts = copy.deepcopy(whole)
    for _ in range(8):
        z = torch.randn(8, 3, 4)
        whole(z)
        for part in z.chunk(4):
            parts(part)
        whole.step()
        parts.step()
    torch.testing.assert_close(whole.state_dict(), parts.state_dict())


@both
def test_a_skipped_step_leaves_no_trace(family):
    torch.manual_seed(0)
    skipping = started(family, torch.randn(12, 3), revive_after=4.0)
    steady = copy.deepcopy(skipping)
    for step in range(8):
        z = torch.randn(4, 3, 5)
        skipping(z)
        if step % 3 == 1:
            before = state(skipping)
            skipping.discard()
            assert all(torch.equal(value, before[name]) for name, value in skipping.state_dict().items())
        else:
            steady(z)
            skipping.step()
            steady.step()
    assert all(torch.equal(value, steady.state_dict()[name]) for name, value in skipping.state_dict().items())


@both
@options
def test_vectors_that_are_not_finite_never_reach_the_state(family, options):
    torch.manual_seed(0)
    spoiled = family(dim=3, codebook_size=40, revive_after=2.0, **options)
    clean = copy.deepcopy(spoiled)
    for step in range(6):
        z = torch.randn(4, 3, 5)
        bad = torch.full((1, 3, 5), [float("nan"), float("inf"), -float("inf")][step % 3])
        spoiled(torch.cat([z[:2], bad, z[2:]]))
        clean(z)
        spoiled.step()
        clean.step()
    assert all(torch.equal(value, clean.state_dict()[name]) for name, value in spoiled.state_dict().items())


@both
@options
def test_evaluation_changes_nothing(family, options):
    quantizer = family(dim=3, codebook_size=5, **options).eval()
    before = state(quantizer)
    one = quantizer(torch.ones(2, 3, 4)).codes
    quantizer.step()
    assert torch.equal(one, quantizer(torch.ones(2, 3, 4)).codes)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


@both
@options
def test_state_round_trips_exactly(family, options):
    torch.manual_seed(0)
    trained, fresh = family(dim=3, codebook_size=5, **options), family(dim=3, codebook_size=5, **options)
    for _ in range(3):
        trained(torch.randn(8, 3, 4))
        trained.step()
    assert not fresh.load_state_dict(trained.state_dict(), strict=True).missing_keys
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in fresh.state_dict().items())
    z = torch.randn(8, 3, 4)
    for quantizer in (fresh, trained):  # and training goes on alike
        quantizer(z)
        quantizer.step()
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in fresh.state_dict().items())
    assert torch.equal(fresh.eval()(z).codes, trained.eval()(z).codes)
    assert torch.equal(fresh(z).vectors, trained(z).vectors)


@both
@options
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_codes_under_autocast_are_those_of_float32(family, options, dtype):
    torch.manual_seed(0)
    quantizer = started(family, torch.randn(64, 8), **options).eval()
    z = torch.randn(4, 8, 16)
    with torch.autocast("cpu", dtype=dtype):
        under_autocast = quantizer(z)
        looked_up = quantizer.lookup(under_autocast.codes)
    plain = quantizer(z)
    assert torch.equal(under_autocast.codes, plain.codes)
    assert torch.equal(under_autocast.vectors, plain.vectors)
    assert torch.equal(looked_up, plain.vectors)


@both
@options
def test_training_in_lower_precision_keeps_float32_statistics(family, options):
    torch.manual_seed(0)
    quantizer = family(dim=3, codebook_size=20, revive_after=2.0, **options)
    expected = copy.deepcopy(quantizer)
    batches = [torch.randn(4, 3, 5).bfloat16() for _ in range(4)]
    quantizer.bfloat16()
    torch.set_default_dtype(torch.bfloat16)  # as Lightning does under bf16-true
    try:
        for z in batches:
            assert quantizer(z).vectors.dtype == torch.float32
            quantizer.step()
    finally:
        torch.set_default_dtype(torch.float32)
    for z in batches:
        expected(z.float())
        expected.step()
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in quantizer.state_dict().items())
    assert quantizer.codebook.dtype == quantizer.usage.dtype == quantizer.idle.dtype == torch.float32


@both
@options
def test_compiles_to_one_graph_with_the_same_results(family, options):
    torch.manual_seed(0)
    quantizer = started(family, torch.randn(70, 4), **options).eval()
    torch.compiler.reset()
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    for batch in (2, 5):
        z = torch.randn(batch, 4, 3, 3)
        found, expected = compiled(z), quantizer(z)
        assert torch.equal(found.codes, expected.codes)
        assert torch.equal(found.vectors, expected.vectors)
        torch.testing.assert_close(found.loss, expected.loss)


class Encode(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model.encode(images)


class Decode(Encode):
    def forward(self, codes):
        return self.model.decode(codes)


@both
@options
def test_exports_encode_and_decode_for_any_batch(family, options):
    torch.manual_seed(0)
    quantizer = family(dim=4, codebook_size=70, **options)
    model = VQVAE((8, 8), 3, quantizer, width=8, residual_width=4, downsample_factor=4)
    model(torch.randn(30, 3, 8, 8))
    model.eval()
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},)
    images = torch.randn(5, 3, 8, 8)
    encode = torch.export.export(Encode(model), (images[:2],), dynamic_shapes=dynamic)
    codes = encode.module()(images)
    assert torch.equal(codes, model.encode(images))
    decode = torch.export.export(Decode(model), (codes[:2],), dynamic_shapes=dynamic)
    torch.testing.assert_close(decode.module()(codes), model.decode(codes), rtol=0, atol=0)
    names = {str(node.target) for node in encode.graph.nodes}
    assert not any("stage1_vqvae" in name for name in names)  # nothing of ours is needed to run it


@both
def test_wrong_shapes_and_settings_are_refused(family):
    with pytest.raises(ValueError, match=r"\[B, 3, \*spatial\] expected, got \[2, 4, 4\]"):
        family(dim=3, codebook_size=5)(torch.randn(2, 4, 4))
    with pytest.raises(ValueError, match="decay"):
        family(decay=1.0)
    with pytest.raises(ValueError, match="codebook_size"):
        family(codebook_size=0)
    with pytest.raises(ValueError, match=r"revive_after is at least 0, got -1"):
        family(revive_after=-1.0)
    with pytest.raises(ValueError, match="metric is euclidean or cosine, got 'manhattan'"):
        family(metric="manhattan")
    with pytest.raises(ValueError, match="gradient is straight_through or rotation, got 'none'"):
        family(gradient="none")
