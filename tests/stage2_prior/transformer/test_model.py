import math

import numpy as np
import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.prior import FullRecompute
from stage2_prior.transformer.model import Transformer
from tests.support.orders import reordered

LAYOUTS = {
    "square": CodeLayout(((3, 3),), (7,)),
    "wide": CodeLayout(((2, 5),), (7,)),
    "two grids": CodeLayout(((2, 2), (3, 4)), (5, 9)),
    "one axis": CodeLayout(((6,),), (7,)),
    "three axes": CodeLayout(((2, 2, 3),), (7,)),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def prior(layout, heads=4, **options):
    torch.manual_seed(0)
    model = Transformer(layout, num_classes=3, width=16, layers=2, heads=heads, **options).eval()
    for parameter in model.parameters():  # far from the near-uniform start, so that every path matters
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def codes_of(layout, batch):
    return torch.stack([torch.randint(0, int(size), (batch,)) for size in layout.codebook_size_at()], dim=1)


@every_layout
def test_a_code_reaches_every_later_logit_and_no_other(layout):
    model = prior(layout)
    codes, labels = codes_of(layout, 1), torch.tensor([1])
    logits = model(codes, labels)
    for j, size in enumerate(layout.codebook_size_at().tolist()):
        changed = codes.clone()
        changed[0, j] = (codes[0, j] + 1) % size
        moved = (model(changed, labels) - logits).nan_to_num().abs().amax(-1)[0] > 1e-6  # [T]
        assert not moved[: j + 1].any()
        assert moved[j + 1 :].all()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@every_layout
def test_cached_logits_equal_forward(layout, kv_heads, tied):
    model = prior(layout, kv_heads=kv_heads, tied=tied)
    codes, labels = codes_of(layout, 3), torch.tensor([0, 2, -1])
    expected = model(codes, labels)
    for steps in (model.incremental(labels), FullRecompute(model, labels)):
        found = torch.stack([steps.next_logits(codes[:, t - 1] if t else None) for t in range(layout.length)], dim=1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def orders_of(layout, batch):
    """A permutation of every grid for every row; the first row's is raster order."""
    rng, ends = np.random.default_rng(0), np.cumsum(layout.lengths)
    grids = np.split(np.arange(layout.length), ends[:-1])
    shuffled = [np.concatenate([rng.permutation(grid) for grid in grids]) for _ in range(batch - 1)]
    return torch.from_numpy(np.stack([np.arange(layout.length), *shuffled]))


@every_layout
def test_in_another_order_it_is_a_transformer_whose_places_are_moved(layout):
    model = prior(layout, kv_heads=2)
    codes, labels, orders = codes_of(layout, 4), torch.tensor([0, 2, -1, 1]), orders_of(layout, 4)
    logits, nats = model(codes, labels, orders), model.nats(codes, labels, orders)
    torch.testing.assert_close(logits[0], model(codes, labels)[0], atol=1e-5, rtol=1e-5)
    for row, order in enumerate(orders):
        other, own = reordered(model, order), (codes[row : row + 1, order], labels[row : row + 1])
        torch.testing.assert_close(logits[row], other(*own)[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(nats[row, order], other.nats(*own)[0], atol=1e-5, rtol=1e-5)


@every_layout
def test_in_another_order_a_code_reaches_what_comes_after_it_there(layout):
    model = prior(layout)
    codes, labels, orders = codes_of(layout, 3), torch.tensor([0, 2, -1]), orders_of(layout, 3)
    logits = model(codes, labels, orders)
    for j, size in enumerate(layout.codebook_size_at().tolist()):
        changed = codes.clone()
        changed[:, j] = (codes[:, j] + 1) % size
        moved = (model(changed, labels, orders) - logits).nan_to_num().abs().amax(-1) > 1e-6  # [B, T]
        after = torch.arange(layout.length) > (orders == j).int().argmax(1)[:, None]
        assert torch.equal(moved, after)


def test_in_any_order_probabilities_of_all_sequences_sum_to_one():
    model = prior(CodeLayout(((1, 2), (1, 2)), (2, 3)))
    sequences = torch.cartesian_prod(*(torch.arange(size) for size in (2, 2, 3, 3)))
    for order in ([1, 0, 3, 2], [0, 1, 3, 2]):
        nats = model.nats(sequences, torch.full((36,), 1), torch.tensor([order] * 36))
        assert (-nats.sum(1)).exp().sum().item() == pytest.approx(1, abs=1e-5)


@every_layout
def test_probabilities_of_absent_codes_are_zero(layout):
    logits = prior(layout)(codes_of(layout, 2))
    absent = torch.arange(layout.vocabulary) >= layout.codebook_size_at()[:, None]
    assert torch.equal(logits == -torch.inf, absent.expand_as(logits))


def test_probabilities_of_all_sequences_sum_to_one():
    layout = CodeLayout(((1, 2), (1, 1)), (3, 2))
    model = prior(layout)
    sequences = torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(2))
    for label in (-1, 0, 2):
        total = model.log_prob(sequences, torch.full((18,), label)).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-5)


def test_label_matters_and_none_is_the_null_class():
    model = prior(LAYOUTS["square"])
    codes = codes_of(model.layout, 2)
    assert not torch.allclose(model(codes, torch.tensor([0, 0])), model(codes, torch.tensor([1, 1])))
    assert torch.equal(model(codes), model(codes, torch.tensor([-1, -1])))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_heads_share_keys_and_values(kv_heads):
    """Attention written out head by head, in numpy."""
    attention = prior(LAYOUTS["square"], kv_heads=kv_heads).stack[0].attention
    x, none = torch.randn(2, 9, 16), torch.stack([torch.ones(9, 2), torch.zeros(9, 2)])  # no rotation
    found = attention(x, none, none).detach().numpy()

    def normalised(x, norm):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + norm.eps) * norm.weight.detach().numpy()

    qkv = (x @ attention.qkv.weight.T).detach().numpy().reshape(2, 9, -1, 4)  # [B, T, heads, D]
    assert qkv.shape[2] == 4 + 2 * kv_heads
    heads = []
    for head in range(4):
        shared = 4 + head // (4 // kv_heads)
        q = normalised(qkv[:, :, head], attention.query_norm)
        k = normalised(qkv[:, :, shared], attention.key_norm)
        scores = np.where(np.tri(9), np.einsum("bqd,bkd->bqk", q, k) / 2, -np.inf)
        weight = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        heads.append(weight @ qkv[:, :, shared + kv_heads])
    expected = np.concatenate(heads, axis=-1) @ attention.out.weight.detach().numpy().T
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_starts_near_uniform():
    layout = CodeLayout(((4, 4),), (64,))
    torch.manual_seed(0)
    nats = Transformer(layout, width=64, layers=2, heads=4).eval().nats(codes_of(layout, 8)).mean()
    assert nats.item() == pytest.approx(math.log(64), rel=0.02)


def test_unless_tied_logits_have_weights_of_their_own():
    layout = LAYOUTS["two grids"]
    model = prior(layout)
    codes, seen = codes_of(layout, 2), []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(codes)
    assert model.head.weight.shape == (5 + 9, 16)
    torch.testing.assert_close(logits[:, :4, :5], seen[0][:, :4] @ model.head.weight[:5].T)
    torch.testing.assert_close(logits[:, 4:], seen[0][:, 4:] @ model.head.weight[5:].T)


def test_tied_logits_are_products_with_the_codes_embeddings():
    layout = LAYOUTS["two grids"]
    model = prior(layout, tied=True)
    assert not any("head" in name for name in model.state_dict())
    codes, seen = codes_of(layout, 2), []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    logits = model(codes)
    rows = model.code.weight
    torch.testing.assert_close(logits[:, :4, :5], seen[0][:, :4] @ rows[:5].T)
    torch.testing.assert_close(logits[:, 4:], seen[0][:, 4:] @ rows[5:].T)


def test_grids_have_an_embedding_where_there_are_several():
    assert prior(LAYOUTS["square"]).grid is None
    model = prior(LAYOUTS["two grids"])
    codes = codes_of(model.layout, 1)
    before = model(codes)
    with torch.no_grad():
        model.grid.weight[1] += 1.0
    changed = (model(codes) != before).nan_to_num().any(-1)[0]
    assert changed.tolist() == [False] * 4 + [True] * 12


def test_dropout_acts_in_training_only():
    model = prior(LAYOUTS["square"], dropout=0.5)
    codes = codes_of(model.layout, 2)
    calm = model(codes)
    assert torch.equal(model(codes), calm)
    assert not torch.equal(model.train()(codes), calm)


def test_attention_has_a_dropout_of_its_own():
    codes = codes_of(LAYOUTS["square"], 2)

    def acts(**rates):
        model = prior(LAYOUTS["square"], **rates)
        return not torch.equal(model.train()(codes), model.eval()(codes))

    assert acts(dropout=0.0, attention_dropout=0.5)
    assert acts(dropout=0.5, attention_dropout=0.0)
    assert not acts(dropout=0.0)
    for rates, expected in [({}, 0.5), ({"attention_dropout": 0.0}, 0.0)]:  # unless told otherwise, as elsewhere
        assert {block.attention.dropout for block in prior(LAYOUTS["square"], dropout=0.5, **rates).blocks} == {
            expected
        }


def test_impossible_inputs_are_refused():
    with pytest.raises(ValueError, match="width 10 and 4 heads"):
        Transformer(LAYOUTS["square"], width=10, heads=4)
    for kv_heads in (0, 3, 8):
        with pytest.raises(ValueError, match=f"kv_heads divide the heads, got {kv_heads} and 4 heads"):
            Transformer(LAYOUTS["square"], width=16, heads=4, kv_heads=kv_heads)
    model = prior(LAYOUTS["square"])
    with pytest.raises(ValueError, match="T at most 9, expected"):
        model(torch.zeros(1, 10, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"labels of shape \[2\]"):
        model(codes_of(model.layout, 2), torch.zeros(3, dtype=torch.int64))
