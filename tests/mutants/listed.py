"""Every mutant of a file, and those that no test need notice."""

import ast
import contextlib
import copy
import difflib
from typing import NamedTuple

ORIGINAL = "__mutmut_orig"
WORDS = ("warnings.warn", "log.warning", "log.info", "print")
"""What only tells somebody something."""


class Mutant(NamedTuple):
    """A broken version of one function.

    Attributes:
        name: Mutmut's name of it.
        line: Of the original source.
        difference: What is broken, as lines of a unified difference.
        is_idle: Whether it differs in words or in checks of what cannot happen alone.
    """

    name: str
    difference: str
    is_idle: bool


def mutants_of(path, folder):
    """Write every mutant into the file ``path`` of the project in ``folder``, and list them in the lines' order."""
    source = (folder / path).read_text()
    with contextlib.chdir(folder):  # where Mutmut reads its settings
        from mutmut.mutation.file_mutation import mutate_file_contents

        generated = mutate_file_contents(str(path), source).code
    (folder / path).write_text(generated)
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    tree = ast.parse(generated)
    functions = {
        node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }
    found = []
    for name, function in functions.items():
        base, _, number = name.rpartition("__mutmut_")
        if number.isdigit():
            original = functions[base + ORIGINAL]
            found.append(
                Mutant(f"{module}.{name}", _difference(base, original, function), _words(original) == _words(function))
            )
    return found


def _difference(name, original, function):
    before, after = (ast.unparse(ast.Module(each.body, [])).splitlines() for each in (original, function))
    before[:0], after[:0] = ([ast.unparse(each.args)] for each in (original, function))
    shown = [line for line in difflib.unified_diff(before, after, n=0, lineterm="") if line[:3] not in ("---", "+++")]
    return "\n".join([name, *(line for line in shown if not line.startswith("@@"))])


def _words(function):
    """A function as text, without what only words or impossible cases differ in."""
    blanked = _Blanked().visit(copy.deepcopy(function))
    blanked.name = ""
    return ast.unparse(blanked)


class _Blanked(ast.NodeTransformer):
    """Leaves out messages of errors, warnings and assertions, ``strict`` of zip and the type of a cast."""

    def visit_Raise(self, node):
        called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(called, None)

    def visit_Assert(self, node):
        return ast.Assert(self.visit(node.test), None)

    def visit_Call(self, node):
        self.generic_visit(node)
        called = ast.unparse(node.func)
        if called in WORDS:
            return ast.Call(node.func, [], [])
        if called == "zip":
            node.keywords = [each for each in node.keywords if each.arg != "strict"]
        if called == "cast" and len(node.args) == 2:
            return node.args[1]
        return node
