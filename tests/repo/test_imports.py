"""Imports go one way: pipelines → stage two → stage one's codes, pipelines → stage one."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for room in ("stage1_vqvae", "stage2_prior", "pipelines") for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_go_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    for module in imported(path):
        if room.startswith("stage"):
            assert not module.startswith("pipelines"), module
        if room == "stage1_vqvae":
            assert not module.startswith("stage2_prior"), module
        if room == "stage2_prior" and module.startswith("stage1_vqvae"):
            assert module in ("stage1_vqvae.codes", "stage1_vqvae.files"), module


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_files_and_functions_can_be_read_in_one_sitting(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 70, node.name
            if node.name == "__init__":
                assert len(node.args.args) + len(node.args.kwonlyargs) <= 11, node.lineno
