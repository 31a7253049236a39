from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn.layers import CroppedConv2d, GatedLayer, Streams
from stage2_prior.pixelcnn.model import PixelCNN

SQUARE = CodeLayout(((4, 4),), (5,))
WIDE = CodeLayout(((3, 5),), (4,))
TALL = CodeLayout(((5, 2),), (4,))
ROW = CodeLayout(((6,),), (4,))
TWO_LEVELS = CodeLayout(((2, 3), (4, 6)), (3, 5))
UNEVEN_LEVELS = CodeLayout(((2, 2), (3, 5)), (5, 3))
RESIDUAL = CodeLayout(((3, 2), (3, 2), (3, 2)), (4, 3, 4))
LAYOUTS = [SQUARE, WIDE, TALL, ROW, TWO_LEVELS, UNEVEN_LEVELS, RESIDUAL]


def build(layout, num_classes=3, **settings):
    torch.manual_seed(0)
    return PixelCNN(layout, num_classes, **{"width": 16, "layers": 5, **settings}).eval()


def random_codes(layout, batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(batch, layout.length, generator=generator)
    return (draws * layout.codebook_size_at()).long()


@torch.no_grad()
def influence(prior, layout):
    """bool [T, T]: whether code j changes a logit at t, over all values that code j can take."""
    codes = random_codes(layout, 1)
    base = prior(codes)
    seen = torch.zeros(layout.length, layout.length, dtype=torch.bool)
    for j, size in enumerate(layout.codebook_size_at().tolist()):
        changed = codes.repeat(size, 1)
        changed[:, j] = torch.arange(size)
        seen[j] = (torch.nan_to_num(prior(changed) - base, nan=0.0).abs() > 1e-9).any(dim=(0, 2))
    return seen


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.grids))
def test_a_code_reaches_all_later_logits_and_no_other(layout):
    # In double precision, so that a weak but real influence is not lost in rounding.
    seen = influence(build(layout).double(), layout)
    later = torch.ones_like(seen).triu(1)
    assert torch.equal(seen, later)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.grids))
def test_with_attention_a_code_reaches_all_later_logits_however_few_the_layers(layout, every):
    seen = influence(build(layout, layers=2, attention_every=every, heads=2).double(), layout)
    assert torch.equal(seen, torch.ones_like(seen).triu(1))


@pytest.mark.parametrize(("kernel", "layers"), [(3, 1), (3, 2), (5, 1)])
def test_the_receptive_field_is_every_place_above_and_to_the_left(kernel, layers):
    layout = CodeLayout(((5, 7),), (3,))
    seen = influence(build(layout, kernel=kernel, layers=layers).double(), layout)
    reach = layers * (kernel // 2)
    for t, j in product(range(layout.length), repeat=2):
        (row, column), (row_j, column_j) = divmod(t, 7), divmod(j, 7)
        # Shifted in by one, a code lies one row (vertical) or one column (horizontal) further away. What the
        # vertical stack collects enters the horizontal one at every layer and travels right from there.
        up, right = row - row_j, column - column_j
        same_row = up == 0 and 1 <= right <= reach + 1
        above = 1 <= up <= reach + 1 and abs(right) <= reach
        if same_row or above:
            assert seen[j, t], f"blind spot: {row_j, column_j} does not reach {row, column}"
        else:
            assert not seen[j, t]


@given(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=30)
def test_cropped_convolution_is_a_masked_full_one(above, left, right, height, width):
    torch.manual_seed(above + 3 * left + 9 * right)
    conv = CroppedConv2d(2, 3, above=above, left=left, right=right).double()
    x = torch.randn(1, 2, height, width).double()
    reach = 2
    full = np.zeros((3, 2, 2 * reach + 1, 2 * reach + 1))
    full[:, :, reach - above : reach + 1, reach - left : reach + right + 1] = conv.weight.detach().numpy()
    padded = np.pad(x[0].numpy(), ((0, 0), (reach, reach), (reach, reach)))
    expected = np.zeros((3, height, width))
    for i, j in product(range(height), range(width)):
        window = padded[:, i : i + 2 * reach + 1, j : j + 2 * reach + 1]
        expected[:, i, j] = (full * window).sum((1, 2, 3)) + conv.bias.detach().numpy()
    np.testing.assert_allclose(conv(x)[0].detach().numpy(), expected, atol=1e-12)


@torch.no_grad()
def test_a_gated_layer_is_its_equation():
    """Equation 4 of the paper, place by place in numpy, on streams that are normalised first."""
    torch.manual_seed(0)
    layer, (height, width) = GatedLayer(2, 3, 0.5).double().eval(), (3, 4)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    vertical, horizontal, condition = torch.randn(3, 2, height, width).double()
    found = layer(Streams(vertical[None], horizontal[None]), condition[None])
    w = {name: value.numpy() for name, value in layer.state_dict().items()}
    vertical, horizontal, condition = (x.numpy() for x in (vertical, horizontal, condition))

    def padded(x, weight):
        x = x / np.sqrt((x**2).mean(0) + np.finfo(np.float32).eps) * weight[:, None, None]
        return np.pad(x, ((0, 0), (1, 0), (1, 1)))

    def gated(x):
        return np.tanh(x[:2]) / (1 + np.exp(-x[2:]))

    up, left = padded(vertical, w["vertical_norm.weight"]), padded(horizontal, w["horizontal_norm.weight"])
    for i, j in product(range(height), range(width)):
        given = w["condition.weight"][:, :, 0, 0] @ condition[:, i, j]
        above = np.einsum("ocij,cij->o", w["vertical.weight"], up[:, i : i + 2, j : j + 3]) + w["vertical.bias"]
        above += given[:4]
        here = np.einsum("ocij,cij->o", w["horizontal.weight"], left[:, i + 1 : i + 2, j : j + 2])
        here += w["horizontal.bias"] + w["vertical_to_horizontal.weight"][:, :, 0, 0] @ above + given[4:]
        added = w["residual.weight"][:, :, 0, 0] @ gated(here) + w["residual.bias"]
        np.testing.assert_allclose(found.vertical[0, :, i, j], vertical[:, i, j] + gated(above), atol=1e-12)
        np.testing.assert_allclose(found.horizontal[0, :, i, j], horizontal[:, i, j] + added, atol=1e-12)


@pytest.mark.parametrize("layout", [SQUARE, TWO_LEVELS], ids=lambda layout: str(layout.grids))
def test_starts_near_uniform(layout):
    nats = build(layout, width=64).nats(random_codes(layout, 16)).mean()
    assert nats.item() == pytest.approx(layout.codebook_size_at().log().mean().item(), rel=0.03)


@pytest.mark.parametrize("attention_every", [None, 2])
@pytest.mark.parametrize("layout", [WIDE, TWO_LEVELS, RESIDUAL], ids=lambda layout: str(layout.grids))
@torch.no_grad()
def test_a_prefix_gives_the_first_logits(layout, attention_every):
    prior = build(layout, attention_every=attention_every)
    codes, labels = random_codes(layout, 2), torch.tensor([1, -1])
    logits = prior(codes, labels)
    for length in range(1, layout.length + 1):
        torch.testing.assert_close(prior(codes[:, :length], labels), logits[:, :length], atol=1e-5, rtol=0)


def test_a_prefix_leaves_finer_grids_alone():
    prior = build(TWO_LEVELS)
    called = []
    for level, stack in enumerate(prior.stacks):
        stack.register_forward_hook(lambda *_, level=level: called.append(level))
    prior(random_codes(TWO_LEVELS, 1)[:, :6])
    assert called == [0]


@pytest.mark.parametrize("layout", [CodeLayout(((2, 3),), (2,)), CodeLayout(((1, 2), (2, 1)), (3, 2))])
@torch.no_grad()
def test_probabilities_of_all_sequences_sum_to_one(layout):
    sequences = torch.tensor(list(product(*(range(size) for size in layout.codebook_size_at().tolist()))))
    prior = build(layout)
    for label in (-1, 0, 2):
        total = prior.log_prob(sequences, torch.full((len(sequences),), label)).logsumexp(0)
        assert total.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("layout", [WIDE, TWO_LEVELS], ids=lambda layout: str(layout.grids))
@torch.no_grad()
def test_labels_change_every_logit(layout):
    prior = build(layout)
    codes = random_codes(layout, 1).repeat(4, 1)
    logits = prior(codes, torch.tensor([0, 1, 2, -1]))
    for one, other in ((0, 1), (1, 2), (2, 3)):
        assert (logits[one] != logits[other]).any(dim=1).all()
    assert torch.equal(prior(codes), prior(codes, torch.full((4,), -1)))


@pytest.mark.parametrize("attention_every", [None, 2])
@torch.no_grad()
def test_eval_is_deterministic_and_independent_of_the_batch(attention_every):
    prior = build(TWO_LEVELS, dropout=0.5, attention_every=attention_every)
    state = {name: value.clone() for name, value in prior.state_dict().items()}
    codes, labels = random_codes(TWO_LEVELS, 4), torch.tensor([0, 1, 2, -1])
    logits = prior(codes, labels)
    assert torch.equal(prior(codes, labels), logits)
    for i in range(4):
        torch.testing.assert_close(prior(codes[i : i + 1], labels[i : i + 1])[0], logits[i], atol=1e-5, rtol=0)
    assert all(torch.equal(value, state[name]) for name, value in prior.state_dict().items())


def test_dropout_acts_in_training_only():
    prior = build(SQUARE, dropout=0.5)
    codes = random_codes(SQUARE, 2)
    calm = prior(codes)
    prior.train()
    assert not torch.equal(prior(codes), calm)


@pytest.mark.parametrize("attention_every", [None, 2])
@pytest.mark.parametrize("layout", [SQUARE, UNEVEN_LEVELS, RESIDUAL], ids=lambda layout: str(layout.grids))
def test_gradients_reach_every_parameter(layout, attention_every):
    prior = build(layout, layers=3, attention_every=attention_every)
    codes, labels = random_codes(layout, 16), torch.arange(16) % 4 - 1
    prior.log_prob(codes, labels).sum().backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad.flatten(1) if parameter.ndim > 1 else parameter.grad).abs().sum() > 0, name


def test_it_learns_a_few_sequences_by_heart():
    prior = build(TWO_LEVELS, num_classes=4, layers=3, dropout=0.0).train()
    codes, labels = random_codes(TWO_LEVELS, 4), torch.arange(4)
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    for _ in range(50):
        loss = prior.nats(codes, labels).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert prior.eval().nats(codes, labels).mean().item() < 0.05


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="one or two axes, got \\(2, 2, 2\\)"):
        PixelCNN(CodeLayout(((2, 2, 2),), (4,)))
    for kernel in (1, 4):
        with pytest.raises(ValueError, match=f"odd and at least 3, got {kernel}"):
            PixelCNN(SQUARE, kernel=kernel)
    for every in (0, 6):
        with pytest.raises(ValueError, match=f"from 1 to layers = 5, or null, got {every}"):
            PixelCNN(SQUARE, layers=5, attention_every=every)
    with pytest.raises(ValueError, match="heads divide the width, got 3 heads and width 16"):
        PixelCNN(SQUARE, width=16, attention_every=1, heads=3)


def test_each_grids_stack_has_its_own_shape():
    prior = build(TWO_LEVELS, width=[8, 12], layers=[3, 2], attention_every=[2, None], heads=2, dropout=[0.0, 0.5])
    coarse, fine = prior.grid_stacks
    assert [len(stack.layers) for stack in (coarse, fine)] == [3, 2]
    assert [stack.code.embedding_dim for stack in (coarse, fine)] == [8, 12]
    assert list(coarse.attention_after) == [1]
    assert fine.attention_after == {}
    assert [stack.gated_layers[0].dropout.p for stack in (coarse, fine)] == [0.0, 0.5]
    codes = random_codes(TWO_LEVELS, 2)
    assert prior(codes).shape == (2, TWO_LEVELS.length, 5)


def test_a_list_that_does_not_fit_the_grids_is_refused():
    with pytest.raises(ValueError, match=r"layers: one value, or one for each of 2 grids, coarse to fine, got \[3\]"):
        build(TWO_LEVELS, layers=[3])
    with pytest.raises(ValueError, match="attention_every is from 1 to layers = 2, or null, got 3"):
        build(TWO_LEVELS, layers=[4, 2], attention_every=[3, 3])
