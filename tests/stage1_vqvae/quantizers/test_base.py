import pytest
import torch
from torch import nn

from stage1_vqvae.quantizers.base import Quantized, Quantizer


class Fixed(Quantizer):
    """The least that a quantizer is."""

    def __init__(self):
        super().__init__()
        self.dim, self.codebook_sizes = 2, (3,)
        self.codebook = nn.Parameter(torch.randn(3, 2))
        self.register_buffer("usage", torch.rand(3))
        self.register_buffer("steps", torch.tensor(2**40 + 1))

    def forward(self, z):
        return Quantized(z, torch.zeros(z.shape[0], *z.shape[2:], dtype=torch.int64), z.new_zeros(()))

    def lookup(self, codes):
        return nn.functional.embedding(codes, self.codebook).movedim(-1, 1)


@pytest.mark.parametrize(
    "convert",
    [
        lambda module: module.half(),
        lambda module: module.bfloat16(),
        lambda module: module.to(torch.bfloat16),
        lambda module: module.to("cpu", torch.float16),
        lambda module: module.to("cpu"),
    ],
)
def test_state_stays_as_it_is_in_a_model_of_lower_precision(convert):
    model = nn.Sequential(nn.Linear(2, 2), Fixed())
    before = {name: value.clone() for name, value in model[1].state_dict().items()}
    convert(model)
    assert all(torch.equal(value, before[name]) for name, value in model[1].state_dict().items())
    assert {value.dtype for value in before.values()} == {value.dtype for value in model[1].state_dict().values()}
    assert isinstance(model[1].codebook, nn.Parameter)


def test_the_rest_of_the_model_follows_the_precision():
    model = nn.Sequential(nn.Linear(2, 2), Fixed()).bfloat16()
    assert model[0].weight.dtype == torch.bfloat16


def test_state_follows_the_model_to_another_device():
    model = nn.Sequential(Fixed()).to("meta", torch.bfloat16)
    assert {(value.device.type, value.dtype) for value in model[0].parameters()} == {("meta", torch.float32)}
    assert model[0].usage.device.type == "meta"


def test_double_precision_is_followed_back_to_single():
    module = Fixed()
    before = module.codebook.detach().clone()
    module.codebook.data = before.double()
    assert module.float().codebook.dtype == torch.float32
    assert torch.equal(module.codebook, before)


def test_what_is_moved_alone_leaves_its_parts_where_they_are():
    module = Fixed()
    module.part = Fixed()
    module.to_empty(device="meta", recurse=False)
    assert module.codebook.device.type == "meta"
    assert module.part.codebook.device.type == "cpu"


def test_the_commitment_can_be_left_out():
    module = Fixed()
    module.commitment_cost = 0.25
    module.drop_commitment()
    assert module.commitment_cost == 0


def test_a_quantizer_without_statistics_steps_and_discards_nothing():
    module = Fixed()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module(torch.randn(2, 2, 3))
    module.step()
    module.discard()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
