"""Takes decorators off functions, which Mutmut leaves alone where they have one."""

import ast

LEFT = {"staticmethod", "classmethod"}
"""Mutmut knows these."""


def without_decorators(source):
    """The same program where no function of a module or class has a decorator.

    ``@torch.no_grad() def step(self): …`` becomes ``def plain_step(self): …`` and
    ``step = torch.no_grad()(plain_step)``, so that the lines of ``step`` can be broken too.
    """
    lines = source.splitlines()
    for function in reversed(_decorated(ast.parse(source))):
        first, header, last = function.decorator_list[0].lineno - 1, function.lineno - 1, function.end_lineno
        indent = " " * function.col_offset
        plain = f"plain_{function.name}"
        applied = plain
        for decorator in reversed(function.decorator_list):
            applied = f"{ast.unparse(decorator)}({applied})"
        body = lines[header:last]
        body[0] = body[0].replace(f"def {function.name}", f"def {plain}", 1)
        lines[first:last] = [*body, f"{indent}{function.name} = {applied}"]
    return "\n".join(lines) + "\n"


def _decorated(tree):
    """Functions with a decorator in the order of their lines, abstract and overloaded ones apart."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    found = [each for body in bodies for each in body if isinstance(each, ast.FunctionDef) and each.decorator_list]
    return sorted((each for each in found if not _is_left(each)), key=lambda each: each.lineno)


def _is_left(function):
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    return names <= LEFT or bool(names & {"abstractmethod", "overload", "setter"})
