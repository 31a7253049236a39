import torch

from stage1_vqvae.quantizers.fsq import FSQ
from stage1_vqvae.quantizers.gumbel import GumbelSoftmax
from stage1_vqvae.quantizers.product import Product
from stage1_vqvae.quantizers.residual import Residual
from stage1_vqvae.quantizers.simvq import SimVQ
from stage1_vqvae.quantizers.vector import EMAVectorQuantizer


def test_copies_start_apart():
    for inner in (SimVQ(dim=3, codebook_size=5), GumbelSoftmax(dim=3, codebook_size=5)):
        first, second = Residual(inner, depth=2).parts()
        for name, value in first.state_dict().items():
            assert name in ("steps", "started") or not torch.equal(value, second.state_dict()[name]), name


def test_steps_and_skipped_steps_reach_every_copy():
    torch.manual_seed(0)
    quantizer = Product(Residual(EMAVectorQuantizer(dim=2, codebook_size=3), depth=2), groups=2)
    quantizer(torch.randn(4, 4, 5))
    quantizer.step()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    assert [int(value) for name, value in before.items() if name.endswith("steps")] == [1, 1, 1, 1]
    quantizer(torch.randn(4, 4, 5))
    quantizer.discard()
    quantizer(torch.randn(4, 4, 5))
    quantizer.discard()
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_codes_of_composites_in_composites_lie_along_one_axis():
    torch.manual_seed(0)
    for quantizer in (Product(Residual(FSQ([3]), 3), 2), Residual(Product(FSQ([3]), 2), 3)):
        quantizer.eval()
        quantized = quantizer(torch.randn(4, quantizer.dim, 5, 6))
        assert quantizer.codebook_sizes == (3,) * 6
        assert quantized.codes.shape == (4, 5, 6, 6)
        assert torch.equal(quantizer.lookup(quantized.codes), quantized.vectors)


def test_a_single_codebook_has_no_axis():
    torch.manual_seed(0)
    z = torch.randn(4, 2, 5)
    alone = FSQ([3, 4])(z)
    for quantizer in (Product(FSQ([3, 4]), 1), Residual(FSQ([3, 4]), 1), Residual(Product(FSQ([3, 4]), 1), 1)):
        assert torch.equal(quantizer(z).codes, alone.codes)
        assert torch.equal(quantizer(z).vectors, alone.vectors)
        assert torch.equal(quantizer.lookup(alone.codes), alone.vectors)
