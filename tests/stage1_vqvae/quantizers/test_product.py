import copy

import pytest
import torch

from stage1_vqvae.quantizers.product import Product
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
