import os
import subprocess
import sys

import pytest
import torch

from stage2_prior.transformer import packed_linear
from stage2_prior.transformer.packed_linear import PackedLinear, has_packed_products

PROCESSORS = {
    "oldest": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "this": {},
}
"""What makes PyTorch take a processor for an older one; more than it has changes nothing."""

DRAW = """
import torch
from stage1_vqvae.codes import CodeLayout
from stage2_prior.sampling import SamplingSettings, sample_images
from stage2_prior.transformer.model import Transformer

torch.manual_seed(0)
layout = CodeLayout(((3, 4),), (20,))
prior = Transformer(layout, 3, width=32, layers=2, heads=2).eval()
for precision in ("float32", "bfloat16"):
    codes = sample_images(prior, torch.arange(20) % 3, 7, settings=SamplingSettings(precision=precision)).codes
    layout.check(codes)
    assert len(codes.unique()) > 10
print("drawn")
"""


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("rows", [1, 4, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_those_of_a_linear_layer(packed, rows, dtype, monkeypatch):
    if not packed:
        monkeypatch.setattr(packed_linear, "has_packed_products", lambda dtype: False)
    torch.manual_seed(0)
    weight, x, residual = (torch.randn(*shape).to(dtype) for shape in ((40, 24), (rows, 24), (rows, 40)))
    before = residual.clone()
    linear = PackedLinear(weight)
    assert linear.packed == (packed and dtype == torch.bfloat16 and has_packed_products(dtype))
    expected = x.double() @ weight.double().T
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.02}
    torch.testing.assert_close(linear(x).double(), expected, **tolerance)
    torch.testing.assert_close(linear.add_to(residual, x).double(), residual.double() + expected, **tolerance)
    assert torch.equal(residual, before)


def test_the_weight_is_copied():
    weight, x = torch.ones(3, 2), torch.ones(1, 2)
    linear = PackedLinear(weight)
    weight.zero_()
    assert linear(x).tolist() == [[2.0, 2.0, 2.0]]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_pytorch_still_has_its_packed_products():
    assert has_packed_products(torch.float32)


class _Operation:
    """An operation of oneDNN that does not do what it should."""

    def __init__(self, fault):
        self.default = self.binary = fault


@pytest.mark.parametrize("fault", ["missing", "refused", "wrong"])
def test_what_the_machine_lacks_is_found_by_trying(fault, monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("bf16 path needs the cpu support avx512bw")

    operation = _Operation({"refused": refuse, "wrong": lambda x, *more: torch.zeros_like(x)}.get(fault))
    namespace = type("Mkldnn", (), {"_reorder_linear_weight": staticmethod(lambda weight, rows: weight)})()
    if fault != "missing":
        namespace._linear_pointwise = operation
    monkeypatch.setattr(packed_linear, "mkldnn", lambda: namespace)
    assert not has_packed_products.__wrapped__(torch.float32)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_precision_draws_on_older_processors(processor):
    done = subprocess.run(
        [sys.executable, "-c", DRAW], env={**os.environ, **PROCESSORS[processor]}, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("drawn\n", 0), done.stderr
