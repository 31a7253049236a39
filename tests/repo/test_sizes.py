"""A file, a function and a list of arguments can each be read in one sitting."""

import ast

import pytest

from tests.repo.test_imports import FILES

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 66  # 60 once pipelines.training.fit is shorter
ARGUMENTS_OF_A_CONSTRUCTOR = 11
"""Without ``self``."""


def functions(path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("name", FILES)
def test_files_are_short(name):
    assert len(FILES[name].read_text().splitlines()) <= LINES_OF_A_FILE


@pytest.mark.parametrize("name", FILES)
def test_functions_fit_a_screen(name):
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions(FILES[name])}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_OF_A_FUNCTION} == {}


@pytest.mark.parametrize("name", FILES)
def test_constructors_have_few_arguments(name):
    counts = {
        node.lineno: len(node.args.args + node.args.kwonlyargs) - 1
        for node in functions(FILES[name])
        if node.name == "__init__"
    }
    assert {line: count for line, count in counts.items() if count > ARGUMENTS_OF_A_CONSTRUCTOR} == {}
