"""The contract of :class:`~stage1_vqvae.quantizers.base.Quantizer`, for every family."""

import hashlib

import pytest
import torch

from stage1_vqvae.vqvae import VQVAE
from tests.support.distributed import on_two_ranks
from tests.support.families import FAMILIES, built, train_step, trained

every = pytest.mark.parametrize("name", FAMILIES)
SHAPES = [(7,), (4, 5), (2, 3, 4)]


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def digest(module):
    """A hash of all that a module holds, state or not."""
    held = hashlib.sha256()
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        held.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.detach().numpy().tobytes())
    return held.hexdigest()


def vqvae(name):
    quantizer = trained(name)
    return VQVAE((8, 8), 1, quantizer, width=8, residual_width=4, residual_layers=1).eval()


@every
@pytest.mark.parametrize("shape", SHAPES)
def test_lookup_gives_the_vectors_of_the_forward_pass(name, shape):
    quantizer = trained(name)
    depth = len(quantizer.codebook_sizes)
    z = torch.randn(3, quantizer.dim, *shape)
    quantized = quantizer(z)
    assert torch.equal(quantizer.lookup(quantized.codes), quantized.vectors)
    assert torch.equal(quantizer.lookup(quantized.codes[1:2]), quantized.vectors[1:2])
    assert quantized.vectors.shape == z.shape
    assert quantized.vectors.dtype == torch.float32
    assert quantized.codes.shape == (3, *shape, *[depth] * (depth > 1))
    assert quantized.codes.dtype == torch.int64
    assert quantized.loss.ndim == 0
    codes = quantized.codes.view(-1, depth)
    assert (codes >= 0).all()
    assert (codes < torch.tensor(quantizer.codebook_sizes)).all()


@every
def test_evaluation_changes_nothing_and_repeats_itself(name):
    for quantizer in (built(name).eval(), trained(name)):
        before = digest(quantizer)
        z = torch.randn(3, quantizer.dim, 7)
        first = quantizer(z)
        for _ in range(3):
            again = quantizer(torch.randn(5, quantizer.dim, 4, 4))
        again = quantizer(z)
        assert torch.equal(again.codes, first.codes)
        assert torch.equal(again.vectors, first.vectors)
        assert digest(quantizer) == before


@every
def test_a_validation_between_steps_leaves_no_trace_in_the_next(name):
    apart, between = built(name), built(name)
    for quantizer in (apart, between):
        torch.manual_seed(1)
        train_step(quantizer, torch.randn(8, quantizer.dim, 6, generator=torch.Generator().manual_seed(1)))
        if quantizer is between:
            quantizer.eval()(torch.randn(9, quantizer.dim, 5))
            quantizer.train()
        torch.manual_seed(2)
        train_step(quantizer, torch.randn(8, quantizer.dim, 6))
    assert digest(apart) == digest(between)


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_moves_no_code(name, dtype):
    quantizer = trained(name)
    z = torch.randn(16, quantizer.dim, 16)
    expected = quantizer(z)
    with torch.autocast("cpu", dtype=dtype):
        found = quantizer(z)
        assert torch.equal(quantizer.lookup(found.codes), expected.vectors)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.vectors, expected.vectors)


@every
def test_stays_in_float32_in_a_model_of_lower_precision(name):
    quantizer = trained(name).train()
    kept = [value.dtype for value in quantizer.state_dict().values()]
    quantizer.to(torch.bfloat16)
    assert [value.dtype for value in quantizer.state_dict().values()] == kept
    z = torch.randn(8, quantizer.dim, 6).bfloat16().requires_grad_()
    quantized = quantizer(z)
    assert quantized.vectors.dtype == torch.float32
    (quantized.vectors.square().mean() + quantized.loss).backward()
    quantizer.step()
    assert z.grad.isfinite().all()
    assert [value.dtype for value in quantizer.state_dict().values()] == kept
    quantizer.eval()
    assert torch.equal(quantizer(z).codes, quantizer(z.float()).codes)


@every
def test_is_built_in_float32_whatever_the_default(name):
    expected = [value.dtype for value in [*built(name).parameters(), *built(name).buffers()]]
    torch.set_default_dtype(torch.bfloat16)
    try:
        quantizer = built(name)
    finally:
        torch.set_default_dtype(torch.float32)
    assert [value.dtype for value in [*quantizer.parameters(), *quantizer.buffers()]] == expected
    assert torch.bfloat16 not in expected


@every
def test_state_loads_strictly_and_exactly(name):
    first = trained(name)
    torch.manual_seed(1)
    second = FAMILIES[name]()
    second.load_state_dict(state(first), strict=True)
    assert digest(second) == digest(first)
    z = torch.randn(3, first.dim, 7)
    assert torch.equal(second.eval()(z).vectors, first(z).vectors)


@every
def test_a_skipped_step_leaves_the_state_as_it_was(name):
    quantizer = trained(name).train()
    before = digest(quantizer)
    quantizer(torch.randn(8, quantizer.dim, 6))
    quantizer.discard()
    assert digest(quantizer) == before
    # Nor does it come back with the next step.
    z = torch.randn(8, quantizer.dim, 6)
    other = built(name)
    other.load_state_dict(state(quantizer))
    for each in (quantizer, other):
        torch.manual_seed(3)
        each(z)
        each.step()
    assert digest(other) == digest(quantizer)


@every
def test_gradients_reach_the_encoder_and_every_parameter(name):
    quantizer = trained(name).train()
    z = torch.randn(8, quantizer.dim, 6, requires_grad=True)
    quantized = quantizer(z)
    (quantized.vectors * torch.randn_like(z)).sum().backward(retain_graph=True)
    assert z.grad.isfinite().all()
    assert (z.grad != 0).any()
    quantized.loss.backward()
    for parameter in quantizer.parameters():
        assert parameter.grad.isfinite().all()


@every
def test_loss_of_a_sample_does_not_depend_on_the_batch(name):
    quantizer = trained(name)
    if name in ("lfq", "bsq", "ibq"):
        quantizer.diversity = 0.0  # the entropy of the batch's mean is not a mean over samples
    z = torch.randn(6, quantizer.dim, 4)
    apart = torch.stack([quantizer(row[None]).loss for row in z]).mean()
    torch.testing.assert_close(quantizer(z).loss, apart, rtol=1e-4, atol=1e-6)


@every
def test_wrong_channels_are_refused(name):
    quantizer = built(name)
    wrong = quantizer.dim + 1
    message = rf"vectors \[B, {quantizer.dim}, \*spatial\] expected, got \[2, {wrong}, 4\]"
    with pytest.raises(ValueError, match=message):
        quantizer(torch.randn(2, wrong, 4))


@every
def test_compiles_whole_and_exports(name):
    model = vqvae(name)
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    with torch.no_grad():
        z = torch.randn(2, model.quantizer.dim, 3, 3)
        expected = model.quantizer(z)
        torch._dynamo.reset()
        found = torch.compile(model.quantizer, fullgraph=True, backend="aot_eager")(z)
        assert torch.equal(found.codes, expected.codes)
        assert torch.equal(found.vectors, expected.vectors)
        codes = model.encode(images)
        assert torch.equal(exported(model.encode, model, images), codes)
        torch.testing.assert_close(exported(model.decode, model, codes), model.decode(codes))


@every
def test_training_steps_compile_whole_and_are_those_of_eager_mode(name):
    plain, compiled = built(name), built(name)
    torch.compiler.reset()
    forward = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for step in range(3):
        z = torch.randn(8, plain.dim, 6, generator=torch.Generator().manual_seed(step))
        for quantizer, call in ((plain, plain), (compiled, forward)):
            torch.manual_seed(step)
            vectors, _, loss = call(z.clone().requires_grad_())
            ((vectors - 1).square().mean() + loss).backward()
            with torch.no_grad():
                for parameter in quantizer.parameters():
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
            quantizer.step()
    for key, value in state(plain).items():
        torch.testing.assert_close(compiled.state_dict()[key], value, msg=key)


def exported(method, model, argument):
    class Method(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return method(x)

    return torch.export.export(Method().eval(), (argument,)).module()(argument)


def _train_on_rank(rank):
    """A hash of everything that ranks have to agree on, by family, step and name."""
    found = {}
    for name in FAMILIES:
        quantizer = built(name)
        for step in range(3):
            z = torch.randn(8, quantizer.dim, 6, generator=torch.Generator().manual_seed(step))
            quantized = quantizer((z[:4] if rank == 0 else z[4:]).requires_grad_())
            (quantized.loss + quantized.vectors.square().mean()).backward()
            held = {f"gradient of {key}": value.grad for key, value in quantizer.named_parameters()}
            for gradient in held.values():  # as DistributedDataParallel does
                torch.distributed.all_reduce(gradient)
            quantizer.step()
            quantizer.zero_grad()
            held |= state(quantizer) | {"codes": quantizer.eval()(z).codes}
            quantizer.train()
            for key, value in held.items():
                found[f"{name}, step {step}, {key}"] = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    return found


def test_two_ranks_hold_the_same_state_at_every_step():
    first, second = on_two_ranks(_train_on_rank)
    assert {name.split(",")[0] for name in first} == set(FAMILIES)
    assert {name for name, value in first.items() if value != second[name]} == set()
