import numpy as np
import pytest
import torch

from stage1_vqvae.losses import AbsoluteError, SquaredError


def test_means_over_all_elements_in_numpy():
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    gap = a.numpy() - b.numpy()
    assert SquaredError()(a, b).item() == pytest.approx((gap**2).mean(), rel=1e-5)
    assert SquaredError(0.25)(a, b).item() == pytest.approx((gap**2).mean() / 0.25, rel=1e-5)
    assert AbsoluteError()(a, b).item() == pytest.approx(np.abs(gap).mean(), rel=1e-5)


def test_variance_is_positive():
    with pytest.raises(ValueError, match="data_variance is above 0, got 0"):
        SquaredError(0)
