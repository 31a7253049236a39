"""Imports go one way between the stages, and nowhere in a circle."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("stage1_vqvae", "stage2_prior", "pipelines")


def files(root=ROOT):
    """Every module of the packages by its dotted name."""
    paths = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def public_names(root=ROOT):
    """The module of each name that a package's stub lists: ``("pipelines", "Generator"): "pipelines.generator"``."""
    found = {}
    for package in PACKAGES:
        for stub in sorted((root / package).rglob("__init__.pyi")):
            parent = ".".join(stub.parent.relative_to(root).parts)
            for node in ast.parse(stub.read_text()).body:
                if isinstance(node, ast.ImportFrom):
                    found |= {(parent, alias.asname or alias.name): f"{parent}.{node.module}" for alias in node.names}
    return found


def imported(path, modules, public):
    """Modules of the packages that a file imports, at its top, in functions and for type checking alike."""
    name = next(name for name, other in modules.items() if other == path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in modules else public.get((source, alias.name), source)


def import_graph(root=ROOT):
    """For each module the modules of the packages that it imports."""
    modules, public = files(root), public_names(root)
    return {name: set(imported(path, modules, public)) & set(modules) for name, path in modules.items()}


def circles(graph):
    """The sets of modules that import one another: strongly connected parts of the graph with more than one module."""

    def reachable(start):
        seen, waiting = set(), [start]
        while waiting:
            for module in graph[waiting.pop()] - seen:
                seen.add(module)
                waiting.append(module)
        return seen

    reach = {module: reachable(module) for module in graph}
    in_circle = [module for module in graph if module in reach[module]]
    return {
        frozenset(other for other in in_circle if other in reach[module] and module in reach[other])
        for module in in_circle
    }


FILES = files()


SHARED = ("stage1_vqvae.codes", "stage1_vqvae.devices", "stage1_vqvae.files")
"""What stage two may import of stage one."""


def allowed(name, module):
    """Whether the module of the first name may import that of the second."""
    package, other = name.partition(".")[0], module.partition(".")[0]
    return {
        "stage1_vqvae": other == "stage1_vqvae",
        "stage2_prior": other == "stage2_prior" or module in SHARED,
        "pipelines": True,
    }[package]


def test_imports_go_one_way():
    graph = import_graph()
    assert any(graph.values())
    assert [(name, module) for name in graph for module in graph[name] if not allowed(name, module)] == []


def test_there_is_no_import_circle():
    assert circles(import_graph()) == set()


def test_a_circle_is_found_through_stubs_functions_and_type_checking(tmp_path):
    texts = {
        "pipelines/__init__.py": "",
        "pipelines/__init__.pyi": "from .a import A as A",
        "pipelines/a.py": "from stage1_vqvae import b\nclass A: ...",
        "pipelines/alone.py": "import os\nfrom . import a",
        "stage1_vqvae/__init__.py": "",
        "stage1_vqvae/b.py": "def f():\n    from stage2_prior.c import C",
        "stage2_prior/__init__.py": "",
        "stage2_prior/c.py": "if TYPE_CHECKING:\n    from pipelines import A\nclass C: ...",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    graph = import_graph(tmp_path)
    assert graph["pipelines.alone"] == {"pipelines.a"}
    assert circles(graph) == {frozenset({"pipelines.a", "stage1_vqvae.b", "stage2_prior.c"})}


def test_every_public_name_is_where_its_stub_says():
    defined = {
        (name, statement.name)
        for name, path in FILES.items()
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.ClassDef | ast.FunctionDef)
    }
    assigned = {
        (name, target.id)
        for name, path in FILES.items()
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in getattr(statement, "targets", [getattr(statement, "target", None)])
        if isinstance(target, ast.Name)
    }
    missing = {key for key, module in public_names().items() if (module, key[1]) not in defined | assigned}
    assert missing == set()
