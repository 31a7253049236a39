import numpy as np
import pytest
import torch

from stage2_prior.kv_cache import causal_mask
from stage2_prior.norms import EPSILON
from stage2_prior.pixelcnn.attention import CachedAttention, CausalAttention

HEIGHT, WIDTH, CHANNELS = 2, 3, 4
POSITIONS = HEIGHT * WIDTH


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
    return torch.randn(2, CHANNELS, HEIGHT, WIDTH).double(), torch.randn(2, POSITIONS, CHANNELS).double()


@torch.no_grad()
def test_it_equals_numpy(attention, inputs):
    weights = {name: value.numpy() for name, value in attention.state_dict().items()}
    features, before = (x.numpy() for x in inputs)
    for b in range(2):
        flat = features[b].reshape(CHANNELS, POSITIONS).T
        scale = np.sqrt((flat**2).mean(1, keepdims=True) + np.finfo(np.float32).eps)
        normed = flat / scale * weights["norm.weight"]
        query = normed @ weights["query.weight"].T
        both = np.concatenate([normed, before[b]], 1) @ weights["key_value.weight"].T
        key, value = both[:, :CHANNELS], both[:, CHANNELS:]
        mixed = np.zeros((POSITIONS, CHANNELS))
        for t in range(POSITIONS):
            for head in (slice(0, 2), slice(2, 4)):
                score = np.exp(key[: t + 1, head] @ query[t, head] / np.sqrt(2))
                mixed[t, head] = score @ value[: t + 1, head] / score.sum()
        expected = flat + mixed @ weights["out.weight"].T + weights["out.bias"]
        found = attention(*inputs)[b].reshape(CHANNELS, POSITIONS).T
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("bucket", [1, 4])
@torch.no_grad()
def test_position_by_position_it_is_the_same(attention, inputs, bucket):
    features, _ = inputs
    embeddings = torch.cat([torch.randn(5, CHANNELS).double(), torch.zeros(1, CHANNELS).double()])
    codes = torch.tensor([[5, 0, 1, 2, 3, 4], [5, 4, 4, 0, 2, 1]])  # before each position; the first has none
    expected = attention(features, embeddings[codes]).flatten(2)
    cached = CachedAttention(attention.folded(embeddings), batch=2, length=POSITIONS)
    epsilon = torch.full((1,), EPSILON, dtype=torch.float64)
    for position in range(POSITIONS):
        seen, here = min(-(-(position + 1) // bucket) * bucket, POSITIONS), torch.tensor([position])
        mask = causal_mask(here, seen, features) if bucket > 1 else None
        found = cached.next(here, features.flatten(2)[:, :, position], codes[:, position], epsilon, seen, mask)
        torch.testing.assert_close(found, expected[:, :, position])
