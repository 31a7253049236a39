"""A file, a function and a list of arguments can each be read in one sitting."""

import ast

from tests.repo.test_imports import FILES

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60
ARGUMENTS_OF_A_CONSTRUCTOR = 11
"""Without ``self``."""


def functions():
    """Every function with the name of its module and its own."""
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield f"{name}:{node.name}:{node.lineno}", node


def test_files_are_short():
    lines = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert len(lines) > 100
    assert {name: count for name, count in lines.items() if count > LINES_OF_A_FILE} == {}


def test_functions_fit_a_screen():
    lines = {name: node.end_lineno - node.lineno + 1 for name, node in functions()}
    assert len(lines) > 500
    assert {name: count for name, count in lines.items() if count > LINES_OF_A_FUNCTION} == {}


def test_constructors_have_few_arguments():
    counts = {
        name: len(node.args.args + node.args.kwonlyargs) - 1 for name, node in functions() if node.name == "__init__"
    }
    assert len(counts) > 50
    assert {name: count for name, count in counts.items() if count > ARGUMENTS_OF_A_CONSTRUCTOR} == {}
