import copy

import pytest
import torch

from stage1_vqvae.quantizers.fsq import FSQ
from stage1_vqvae.quantizers.product import MultiHead, Product
from stage1_vqvae.quantizers.residual import Residual
from stage1_vqvae.quantizers.simvq import SimVQ
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer


def test_each_group_of_channels_is_quantized_on_its_own():
    torch.manual_seed(0)
    quantizer = Product(SimVQ(dim=3, codebook_size=5), groups=2)
    z = torch.randn(2, 6, 4, 4)
    found = quantizer(z)
    apart = [quantizer.quantizers[group](z[:, 3 * group : 3 * group + 3]) for group in range(2)]
    assert torch.equal(found.vectors, torch.cat([one.vectors for one in apart], dim=1))
    assert torch.equal(found.codes, torch.stack([one.codes for one in apart], dim=-1))
    torch.testing.assert_close(found.loss, (apart[0].loss + apart[1].loss) / 2)
    assert (quantizer.dim, quantizer.codebook_sizes) == (6, (5, 5))


def test_groups_learn_their_own_codebooks():
    torch.manual_seed(0)
    inner = EMAVectorQuantizer(dim=2, codebook_size=4)
    quantizer, alone = Product(inner, groups=2), copy.deepcopy(inner)
    for _ in range(3):
        z = torch.randn(8, 4, 5)
        quantizer(z)
        quantizer.step()
        alone(z[:, 2:])
        alone.step()
    assert torch.equal(quantizer.quantizers[1].codebook, alone.codebook)
    assert not torch.equal(quantizer.quantizers[0].codebook, alone.codebook)


def test_wrong_shapes_and_settings_are_refused():
    with pytest.raises(ValueError, match="groups"):
        Product(SimVQ(dim=3), groups=0)
    with pytest.raises(ValueError, match=r"\[B, 6, \*spatial\] expected, got \[2, 3, 4\]"):
        Product(SimVQ(dim=3), groups=2)(torch.randn(2, 3, 4))


def test_heads_share_one_codebook():
    torch.manual_seed(0)
    inner = EMAVectorQuantizer(dim=2, codebook_size=7)
    quantizer = MultiHead(inner, heads=3)
    z = torch.randn(4, 6, 5)
    found = quantizer(z)
    assert found.codes.shape == (4, 5, 3)
    for head in range(3):
        own = z[:, 2 * head : 2 * head + 2]
        distances = (own.movedim(1, -1)[..., None, :] - inner.codebook).square().sum(-1)
        assert torch.equal(found.codes[..., head], distances.argmin(-1))
    assert sum(value.numel() for name, value in quantizer.state_dict().items() if "codebook" in name) == 14
    quantizer.step()
    assert inner.usage.sum().item() == pytest.approx(4 * 5 * 3)
    with pytest.raises(ValueError, match="heads is at least 1, got 0"):
        MultiHead(inner, heads=0)


@pytest.mark.parametrize(
    ("inner", "heads"),
    [(FSQ([3]), 3), (FSQ([3]), 2), (FSQ([3, 4]), 1), (Residual(FSQ([5]), 2, scale=0.5), 2)],
    ids=["three", "two", "one", "of two depths"],
)
def test_each_head_is_quantized_as_alone(inner, heads):
    torch.manual_seed(0)
    quantizer, z = MultiHead(inner, heads).eval(), torch.randn(2, heads * inner.dim, 5, 4)
    vectors, codes, _ = quantizer(z)
    apart = [inner(part) for part in z.chunk(heads, dim=1)]
    assert torch.equal(vectors, torch.cat([each.vectors for each in apart], dim=1))
    expected = torch.cat([each.codes.view(2, 5, 4, -1) for each in apart], dim=-1)  # a head's depths stand together
    assert torch.equal(codes.view(2, 5, 4, -1), expected)
    assert codes.shape == (2, 5, 4) + (expected.shape[-1],) * (expected.shape[-1] > 1)
    assert torch.equal(quantizer.lookup(codes), vectors)
