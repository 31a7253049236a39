import pytest
import torch

from stage2_prior import matrices
from stage2_prior.matrices import PACKED_FROM, Matrix, has_packed_products


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("rows", [1, PACKED_FROM, 16, 33])
def test_products_are_those_of_a_linear_layer(packed, rows, monkeypatch):
    if not packed:
        monkeypatch.setattr(matrices, "has_packed_products", lambda: False)
    torch.manual_seed(0)
    weight, x, residual = torch.randn(40, 24), torch.randn(rows, 24), torch.randn(rows, 40)
    before = residual.clone()
    matrix = Matrix(weight, rows)
    assert matrix.packed == (packed and rows >= PACKED_FROM and has_packed_products())
    expected = (x.double() @ weight.double().T).float()
    torch.testing.assert_close(matrix.times(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(matrix.added(residual, x), residual + expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(residual, before)


def test_a_matrix_is_a_copy():
    weight, x = torch.ones(3, 2), torch.ones(1, 2)
    matrix = Matrix(weight, 1)
    weight.zero_()
    assert matrix.times(x).tolist() == [[2.0, 2.0, 2.0]]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_pytorch_still_has_its_packed_products():
    assert has_packed_products()
