import torch

from stage2_prior.sampling.cuda_graph import Recordings
from stage2_prior.sampling.sampler import classes_in_turn, sample_images
from stage2_prior.transformer.model import Transformer
from tests.stage2_prior.transformer.test_cache import build
from tests.support.graph_emulator import emulate


@torch.no_grad()
def test_weights_that_recordings_read_are_renewed_where_they_are(monkeypatch):
    emulate(monkeypatch)
    model, other = build(tied=True), build(tied=True)
    for parameter in other.parameters():
        parameter.mul_(0.5)
    kept = Recordings()
    weights = kept.static(model.folded())
    addresses = [tensor.data_ptr() for tensor in weights.tensors()]
    assert kept.static(other.folded()) is weights
    assert [tensor.data_ptr() for tensor in weights.tensors()] == addresses
    for mine, theirs in zip(weights.tensors(), other.folded().tensors(), strict=True):
        assert torch.equal(mine, theirs)


def test_microbatches_share_one_copy_of_the_weights(monkeypatch):
    model, made = build(), []
    folded = Transformer.folded
    monkeypatch.setattr(Transformer, "folded", lambda prior: made.append(prior) or folded(prior))
    sample_images(model, classes_in_turn(100, range(3)), 0)
    assert len(made) == 1
