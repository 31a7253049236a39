"""The lock files name every package that the project needs, with the versions of constraints.txt."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
EXTRAS = ("dev", "sweep", "cluster", "tensorboard", "lite0")
LOCKS = ("cpu.txt", "pypi.txt")


def pins(path):
    """Versions by package."""
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in lines}


@pytest.mark.parametrize("lock", LOCKS)
def test_versions_are_those_of_the_constraints(lock):
    locked, constraints = pins(ROOT / "requirements" / lock), pins(ROOT / "constraints.txt")
    differ = {name for name in constraints.keys() & locked.keys() if locked[name].public != constraints[name].public}
    assert not differ, f"{differ}: run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_locked_within_its_bounds(lock):
    locked = pins(ROOT / "requirements" / lock)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    for requirement in map(Requirement, asked):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name}: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} is locked as {version}: run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_has_a_hash_and_no_index_is_named(lock):
    text = (ROOT / "requirements" / lock).read_text()
    entries = re.split(r"\n(?=\S)", text.partition("\n")[2].strip())
    assert len(entries) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) > 100
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)
    assert "://" not in text
    assert not re.search(r"^--?(index|extra|find)", text, re.MULTILINE)


def test_private_parts_of_libraries_are_within_upper_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {canonicalize_name(one.name): one.specifier for one in map(Requirement, project["dependencies"])}
    for name in ("torch", "pytorch-lightning", "hydra-core", "wandb"):
        assert any(bound.operator == "<" for bound in bounds[name]), name
