import pytest
import torch
from torch import nn

from stage1_vqvae.quantizers import (
    FSQ,
    IBQ,
    DiVeQ,
    EMAVectorQuantizer,
    GumbelSoftmax,
    LookupFree,
    MultiHead,
    Product,
    Projected,
    Quantized,
    Quantizer,
    Residual,
    SimVQ,
    VectorQuantizer,
)

LEARNED = [EMAVectorQuantizer, VectorQuantizer, DiVeQ, SimVQ, GumbelSoftmax, IBQ]
STATISTICS = ("steps", "started", "usage", "idle")  # all zero at first


class WithState(Quantizer):
    """A user's quantizer with a codebook, which does not say how it starts."""

    dim, codebook_sizes = 2, (3,)

    def __init__(self):
        super().__init__()
        self.codebook = nn.Parameter(torch.randn(3, 2))

    def forward(self, z):
        return Quantized(z, torch.zeros(z.shape[0], *z.shape[2:], dtype=torch.int64), z.sum() * 0)

    def lookup(self, codes):
        return nn.functional.embedding(codes, self.codebook).movedim(-1, 1)


class WithStart(WithState):
    """The same, which does."""

    def reset_parameters(self):
        nn.init.normal_(self.codebook)


def assert_apart(first, second):
    for name, value in first.state_dict().items():
        assert name.split(".")[-1] in STATISTICS or not torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize("family", LEARNED)
@pytest.mark.parametrize("composite", [Residual, Product])
def test_copies_start_apart(composite, family):
    first, second, third = composite(family(dim=3, codebook_size=5), 3).parts()
    assert_apart(first, second)
    assert_apart(second, third)


def test_copies_of_composites_start_apart():
    for inner in (
        Product(EMAVectorQuantizer(2, 5), 2),
        MultiHead(EMAVectorQuantizer(2, 5), 2),
        Projected(EMAVectorQuantizer(2, 5), 4),
    ):
        assert_apart(*Residual(inner, 2).parts())


def test_a_quantizer_that_cannot_start_anew_is_refused_by_name():
    with pytest.raises(ValueError, match=r"WithState has parameters or buffers but no reset_parameters\(\): define it"):
        Residual(WithState(), depth=3)
    assert_apart(*Product(WithStart(), groups=2).parts())


def test_a_quantizer_without_state_needs_no_start():
    FSQ([3, 3]).reset_parameters()
    LookupFree(dim=3).reset_parameters()


def test_steps_and_skipped_steps_reach_every_copy():
    torch.manual_seed(0)
    quantizer = Product(Residual(Projected(EMAVectorQuantizer(dim=2, codebook_size=3), dim=2), depth=2), groups=2)
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
    for quantizer in (
        Product(Residual(FSQ([3]), 3), 2),
        Residual(Product(FSQ([3]), 2), 3),
        MultiHead(Residual(FSQ([3]), 3), 2),
        Residual(MultiHead(FSQ([3]), 2), 3),
    ):
        quantizer.eval()
        quantized = quantizer(torch.randn(4, quantizer.dim, 5, 6))
        assert quantizer.codebook_sizes == (3,) * 6
        assert quantized.codes.shape == (4, 5, 6, 6)
        assert torch.equal(quantizer.lookup(quantized.codes), quantized.vectors)


def test_a_single_codebook_has_no_axis():
    torch.manual_seed(0)
    z = torch.randn(4, 2, 5)
    alone = FSQ([3, 4])(z)
    for quantizer in (
        Product(FSQ([3, 4]), 1),
        Residual(FSQ([3, 4]), 1),
        MultiHead(FSQ([3, 4]), 1),
        Residual(Product(FSQ([3, 4]), 1), 1),
    ):
        assert torch.equal(quantizer(z).codes, alone.codes)
        assert torch.equal(quantizer(z).vectors, alone.vectors)
        assert torch.equal(quantizer.lookup(alone.codes), alone.vectors)
