import numpy as np
import pytest
import torch

from stage1_vqvae.losses import AbsoluteError, SquaredError, WeightedSum, as_sum


def test_means_over_all_elements_in_numpy():
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    gap = a.numpy() - b.numpy()
    assert SquaredError()(a, b).item() == pytest.approx((gap**2).mean(), rel=1e-5)
    assert SquaredError(0.25)(a, b).item() == pytest.approx((gap**2).mean() / 0.25, rel=1e-5)
    assert AbsoluteError()(a, b).item() == pytest.approx(np.abs(gap).mean(), rel=1e-5)


def test_variance_is_positive():
    with pytest.raises(ValueError, match="data_variance is above 0, got 0"):
        SquaredError(0)


def test_a_sum_weighs_its_terms():
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    both = WeightedSum({"pixels": AbsoluteError(), "squares": SquaredError(0.5)}, {"pixels": 3.0, "squares": 0.25})
    gap = a.numpy() - b.numpy()
    absolute, squared = np.abs(gap).mean(), (gap**2).mean() / 0.5
    assert both(a, b).item() == pytest.approx(3 * absolute + 0.25 * squared, rel=1e-5)
    assert {name: value.item() for name, value in both.terms(a, b).items()} == pytest.approx(
        {"pixels": absolute, "squares": squared}, rel=1e-5
    )
    nats = torch.tensor(7.0)
    assert both.total(both.terms(a, b, nats)).item() == pytest.approx(3 * 7 + 0.25 * squared, rel=1e-5)
    assert both.total({"pixels": nats, "unheard of": nats}).item() == 3 * 7 + 7
    assert WeightedSum({"pixels": AbsoluteError()}, {"pixels": 0.0})(a, b).item() == 0


def test_one_objective_is_a_sum_of_itself():
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    alone = as_sum(SquaredError(0.3))
    assert torch.equal(alone(a, b), SquaredError(0.3)(a, b))
    assert as_sum(alone) is alone
    assert alone.total(alone.terms(a, b, torch.tensor(2.0))).item() == 2


def test_terms_with_weights_of_their_own_belong_to_the_sum():
    """So that they follow it to the training's device."""
    term = torch.nn.MSELoss()
    both = WeightedSum({"pixels": AbsoluteError(), "squares": term}, {"pixels": 1.0, "squares": 1.0})
    assert dict(both.named_children()) == {"squares": term}


@pytest.mark.parametrize("weights", [{}, {"pixels": 1.0, "more": 1.0}, {"pixels": -1.0}])
def test_weights_fit_the_terms(weights):
    with pytest.raises(ValueError, match="weight"):
        WeightedSum({"pixels": AbsoluteError()}, weights)
