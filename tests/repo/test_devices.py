"""What some devices lack is asked of them in one place."""

import ast

from tests.repo.test_imports import files

ASKS = "stage1_vqvae.devices"
"""The module that finds out what a device can do."""


def wide(source):
    """Lines that make float64 tensors; numpy's arrays are the host's own."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and (node.attr == "double" or (node.attr == "float64" and ast.unparse(node.value) == "torch"))
    ]


def test_float64_is_asked_for_in_one_place():
    """Apple's GPUs have none: in_float64, float64_device and widest_float know what to do."""
    found = {name: wide(path.read_text()) for name, path in files().items()}
    assert found.pop(ASKS)
    allowed = {"pipelines.distributed.hardware"}  # refuses precision=64-true where there is none
    assert {name: lines for name, lines in found.items() if lines and name not in allowed} == {}


def test_what_is_not_allowed_is_seen():
    assert wide("x.double()\nx = torch.zeros(3, dtype=torch.float64)\ny = np.float64(3)") == [1, 2]
