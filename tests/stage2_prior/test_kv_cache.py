import numpy as np
import pytest
import torch

from stage2_prior.kv_cache import KVCache, causal_mask


def test_attention_is_the_softmax_of_its_definition():
    torch.manual_seed(0)
    queries, cache = torch.randn(2, 3, 2, 4), KVCache(torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4))

    def expected(length):
        scores = np.einsum("bhnd,bhtd->bhnt", queries, cache.keys[:, :, :length])
        weight = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        return np.einsum("bhnt,bhtd->bhnd", weight, cache.values[:, :, :length])

    np.testing.assert_allclose(cache.attend(queries, 5, None), expected(5), atol=1e-6)
    mask = torch.tensor([[0.0, 0.0, 0.0, -torch.inf, -torch.inf]])
    np.testing.assert_allclose(cache.attend(queries, 5, mask), expected(3), atol=1e-6)


@pytest.mark.parametrize("kv_heads", [1, 3])
def test_what_is_put_is_attended_to(kv_heads):
    torch.manual_seed(0)
    cache = KVCache.empty((2, kv_heads, 4, 8), torch.zeros(0))
    keys, values, queries = torch.randn(3, 2, kv_heads, 4, 8)
    for position in range(4):
        here = slice(position, position + 1)
        cache.put(torch.tensor([position]), keys[:, :, here], values[:, :, here])
    assert torch.equal(cache.keys, keys)
    assert torch.equal(cache.values, values)
    expected = KVCache(keys, values).attend(queries, 4, None)
    torch.testing.assert_close(cache.attend(queries, 4, None), expected)


def test_positions_after_one_are_masked():
    mask = causal_mask(torch.tensor([2]), 5, torch.zeros(0, dtype=torch.bfloat16))
    assert mask.dtype == torch.bfloat16
    assert mask.tolist() == [[0, 0, 0, -torch.inf, -torch.inf]]
