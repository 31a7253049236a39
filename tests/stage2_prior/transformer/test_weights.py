import torch

from stage2_prior.sampling.sampler import classes_in_turn, sample_images
from stage2_prior.transformer.packed_linear import Matrix
from stage2_prior.transformer.weights import Weights, sharing
from tests.stage2_prior.transformer.test_cache import build


@torch.no_grad()
def test_weights_copied_later_stay_where_they_are():
    model, other = build(tied=True), build(tied=True)
    for parameter in other.parameters():
        parameter.mul_(0.5)
    weights = Weights.of(model, 1)
    places = [tensor.data_ptr() for tensor in weights.tensors()]
    weights.copy_from(other, 1)
    assert [tensor.data_ptr() for tensor in weights.tensors()] == places
    for mine, theirs in zip(weights.tensors(), Weights.of(other, 1).tensors(), strict=True):
        assert torch.equal(mine, theirs)


@torch.no_grad()
def test_shared_weights_are_those_at_the_first_use_inside():
    model = build()
    with sharing(model):
        first = Weights.of(model, 16)
        with model.frozen():
            assert Weights.of(model, 16) is first
        assert Weights.of(model, 16) is first
        assert Weights.of(model, 1) is not first
    model.code.weight.add_(1)
    assert torch.equal(Weights.of(model, 16).codes[0], model.code.weight[0])


def test_passes_share_one_copy_of_the_weights(monkeypatch):
    model, made = build(), []
    init = Matrix.__init__

    def counting(self, weight, rows):
        made.append(rows)
        init(self, weight, rows)

    monkeypatch.setattr(Matrix, "__init__", counting)
    sample_images(model, classes_in_turn(16, 3), 0)
    once = len(made)
    sample_images(model, classes_in_turn(50, 3), 0)
    assert len(made) == 2 * once == 2 * (4 * 2 + 2)
