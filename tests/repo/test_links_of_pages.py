"""What the README and the pages of ``docs/`` point at exists: links, files, import paths, options."""

import ast
import importlib
import re
import tomllib

import pytest

from tests.repo.test_imports import public_names
from tests.support.pages import PAGES, ROOT, blocks, prose

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOP = ("stage1_vqvae", "stage2_prior", "pipelines", "conf", "tests", "docs")


def anchors(page):
    """The names by which headings of a page are linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_within_the_project_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), link


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page):
    for name in re.findall(rf"`((?:{'|'.join(TOP)})/[\w./-]*)`", prose(page)):
        # An override names an option of `conf`, a test or a folder may be meant as a pattern.
        assert (ROOT / name).exists(), name


def importable(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])  # it names what is gone
def test_import_paths_exist(page):
    for name in re.findall(r"\b(?:stage1_vqvae|stage2_prior|pipelines|tests)(?:\.[A-Za-z_]\w*)+", PAGES[page]):
        assert importable(name.removesuffix(".py")), name


@pytest.mark.parametrize("page", PAGES)
def test_python_of_the_pages_imports_public_names(page):
    public = public_names()
    for block in blocks(page):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in TOP:
                    assert {(node.module, alias.name) for alias in node.names} <= set(public), node.module


def test_the_readme_links_every_page():
    linked = set(re.findall(r"\]\(([^)#]+)\)", PAGES["README.md"]))
    assert {page for page in PAGES if page != "README.md"} <= linked


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) < 200


def test_extras_exist():
    named = {
        extra
        for text in PAGES.values()
        for extras in re.findall(r"pip install [^`\n]*\[(.+?)\]", text)
        for extra in extras.split(",")
    }
    assert named
    assert named <= set(PROJECT["optional-dependencies"])


def test_console_scripts_exist():
    named = {name for text in PAGES.values() for name in re.findall(r"`(vqvae-[a-z0-9-]+)`", text)}
    assert named
    assert named <= {*PROJECT["scripts"], PROJECT["name"]}


SIZES = ("ema16", "ema128")  # of `ema`, for recipes


@pytest.mark.parametrize(
    ("page", "group"),
    [
        ("docs/quantizers.md", "stage1/quantizer"),
        ("docs/priors.md", "stage2"),
        ("docs/data.md", "data"),
        ("docs/tracking.md", "logger"),
        ("docs/many_gpus.md", "hardware"),
        ("docs/evaluation.md", "stage1/likelihood"),
    ],
)
def test_a_page_names_every_option_of_its_group(page, group):
    for path in (ROOT / "conf" / group).glob("*.yaml"):
        if not path.stem.startswith("_") and path.stem not in SIZES:
            assert re.search(rf"[`=]{path.stem}\b", PAGES[page]), path.stem


def test_versions_agree():
    version = PROJECT["version"]
    assert f"## {version}" in PAGES["CHANGELOG.md"]
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
