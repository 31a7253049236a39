import numpy as np
import pytest
import torch

from stage2_prior.kv_cache import hidden_after
from stage2_prior.pixelcnn.attention import CachedAttention, CausalAttention

HEIGHT, WIDTH, CHANNELS = 2, 3, 4
PLACES = HEIGHT * WIDTH


@pytest.fixture
def attention():
    torch.manual_seed(0)
    block = CausalAttention(CHANNELS, heads=2, dropout=0.5).double().eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return torch.randn(2, CHANNELS, HEIGHT, WIDTH).double(), torch.randn(2, PLACES, CHANNELS).double()


@torch.no_grad()
def test_it_equals_numpy(attention, inputs):
    weights = {name: value.numpy() for name, value in attention.state_dict().items()}
    features, before = (x.numpy() for x in inputs)
    for b in range(2):
        flat = features[b].reshape(CHANNELS, PLACES).T
        scale = np.sqrt((flat**2).mean(1, keepdims=True) + np.finfo(np.float32).eps)
        normed = flat / scale * weights["norm.weight"]
        query = normed @ weights["query.weight"].T
        both = np.concatenate([normed, before[b]], 1) @ weights["key_value.weight"].T
        key, value = both[:, :CHANNELS], both[:, CHANNELS:]
        mixed = np.zeros((PLACES, CHANNELS))
        for t in range(PLACES):
            for head in (slice(0, 2), slice(2, 4)):
                score = np.exp(key[: t + 1, head] @ query[t, head] / np.sqrt(2))
                mixed[t, head] = score @ value[: t + 1, head] / score.sum()
        expected = flat + mixed @ weights["out.weight"].T + weights["out.bias"]
        found = attention(*inputs)[b].reshape(CHANNELS, PLACES).T
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("bucket", [1, 4])
@torch.no_grad()
def test_place_by_place_it_is_the_same(attention, inputs, bucket):
    features, before = inputs
    expected = (attention(features, before) - features).flatten(2)
    cached = CachedAttention(attention, batch=2, length=PLACES)
    for place in range(PLACES):
        seen, here = min(-(-(place + 1) // bucket) * bucket, PLACES), torch.tensor([place])
        hidden = hidden_after(here, seen, features) if bucket > 1 else None
        added = cached.next(here, features.flatten(2)[:, :, place], before[:, place], seen, hidden)
        torch.testing.assert_close(added, expected[:, :, place])
