import inspect

import numpy as np
import pytest
import torch

from stage1_vqvae.codes import CodeLayout
from stage2_prior.pixelcnn import PixelCNN
from stage2_prior.prior import FullRecompute, Prior, check_labels
from stage2_prior.transformer import Transformer
from tests.support.tiny import compose


class Table(Prior):
    """Logits that depend on the label and the code before: small enough to check by hand."""

    def __init__(self, layout, num_classes):
        super().__init__(layout, num_classes)
        torch.manual_seed(0)
        self.table = torch.randn(num_classes + 1, layout.vocabulary + 1, layout.vocabulary)

    def predict(self, codes, labels):
        before = torch.cat([torch.full_like(codes[:, :1], self.layout.vocabulary), codes[:, :-1]], dim=1)
        return self.table[labels[:, None], before]


def test_log_prob_is_the_chain_rule_in_numpy():
    prior = Table(CodeLayout(((1, 3),), (4,)), 2)
    codes = torch.tensor([[1, 3, 0]])
    table = prior.table.numpy().astype(np.float64)
    log_p = table - np.log(np.exp(table).sum(-1, keepdims=True))
    expected = log_p[1, 4, 1] + log_p[1, 1, 3] + log_p[1, 3, 0]
    np.testing.assert_allclose(prior.log_prob(codes, torch.tensor([1])).item(), expected, rtol=1e-5)
    np.testing.assert_allclose(prior.nats(codes, torch.tensor([1])).sum().item(), -expected, rtol=1e-5)


def test_the_null_class_is_the_last_row():
    prior = Table(CodeLayout(((1, 3),), (4,)), 2)
    codes = torch.tensor([[1, 3, 0]])
    for nothing in (None, torch.tensor([-1])):
        assert torch.equal(prior(codes, nothing), prior.predict(codes, torch.tensor([2])))


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (3, [0, 3], "labels are 0 to 2, or -1 for none, got 0 to 3"),
        (3, [-2, 1], "labels are 0 to 2, or -1 for none, got -2 to 1"),
        (0, [0, -1], "labels are -1 for a prior without classes, got -1 to 0"),
        (3, [0], r"labels are int64 \[2\], got torch.int64 \[1\]"),
        (3, [0.0, 1.0], r"labels are int64 \[2\], got torch.float32 \[2\]"),
    ],
)
def test_labels_that_there_are_not_are_named(classes, labels, message):
    check_labels(torch.tensor([-1, classes - 1]), classes, 2)
    check_labels(torch.tensor([], dtype=torch.int64), classes, 0)
    with pytest.raises(ValueError, match=message):
        check_labels(torch.tensor(labels), classes, 2)


def test_plain_incremental_form_equals_forward():
    prior = Table(CodeLayout(((1, 2), (1, 2)), (4, 2)), 2)
    codes, labels = torch.tensor([[1, 3, 0, 1], [0, 0, 1, 1]]), torch.tensor([0, -1])
    steps = FullRecompute(prior, labels)
    found = [steps.next_logits(codes[:, t - 1] if t else None) for t in range(4)]
    assert torch.equal(torch.stack(found, dim=1), prior(codes, labels))
    assert (found[2][:, 2:] == -torch.inf).all()


@pytest.mark.parametrize("layout", [CodeLayout(((4, 4),), (8,)), CodeLayout(((2,), (2, 3)), (4, 8))])
@pytest.mark.parametrize("kind", [PixelCNN, Transformer])
def test_it_is_built_without_memory_on_the_meta_device(kind, layout):
    with torch.device("meta"):
        prior = kind(layout, 2, width=16, layers=2, heads=2)
    assert {value.device.type for value in (*prior.parameters(), *prior.buffers())} == {"meta"}
    assert {name: value.shape for name, value in prior.state_dict().items()} == {
        name: value.shape for name, value in kind(layout, 2, width=16, layers=2, heads=2).state_dict().items()
    }


@pytest.mark.parametrize(("kind", "option"), [(PixelCNN, "pixelcnn"), (Transformer, "transformer")])
def test_defaults_of_the_options_are_those_of_the_signatures(kind, option):
    model = compose(f"stage2={option}")["stage2"]["model"]
    parameters = inspect.signature(kind).parameters
    for name, value in model.items():
        if name != "_target_":
            assert value == parameters[name].default, name


@pytest.mark.parametrize("kind", [PixelCNN, Transformer])
def test_activations_computed_again_change_no_number(kind):
    layout, found = CodeLayout(((2, 2), (2, 3)), (4, 8)), []
    codes, labels = torch.arange(30).view(3, 10) % 4, torch.tensor([0, 1, -1])
    for again in (False, True):
        torch.manual_seed(0)  # of the weights and of dropout
        prior = kind(layout, 2, width=16, layers=2, heads=2, dropout=0.5, activation_checkpointing=again)
        forwards = []
        prior.sharding_units()[0].register_forward_pre_hook(lambda *_, seen=forwards: seen.append(1))
        nats = prior.nats(codes, labels)
        nats.mean().backward()
        assert len(forwards) == 1 + again
        found.append({"nats": nats} | {name: value.grad for name, value in prior.named_parameters()})
    for name, value in found[0].items():
        assert torch.equal(found[1][name], value), name


def test_units_of_sharding_are_most_of_a_prior():
    layout = CodeLayout(((2, 2), (3, 3)), (4, 8))
    for prior in (PixelCNN(layout, 2), Transformer(layout, 2), PixelCNN(layout, 2).level(1)):
        units = prior.sharding_units()
        assert len(units) >= 6
        of_units = [parameter for unit in units for parameter in unit.parameters()]
        assert sum(value.numel() for value in of_units) > 0.5 * sum(value.numel() for value in prior.parameters())
    assert Table(layout, 2).sharding_units() == []
