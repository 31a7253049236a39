import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("conf", "pipelines", "stage1_vqvae", "stage2_prior")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("target", PROJECT["project"]["scripts"].values())
def test_console_scripts_exist(target):
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_every_command_is_a_console_script():
    commands = {path.stem for path in (ROOT / "pipelines").glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert {
        target.split(":")[0].removeprefix("pipelines.") for target in PROJECT["project"]["scripts"].values()
    } == commands


def test_commands_find_their_configuration_from_any_folder(tmp_path):
    shown = subprocess.run(
        [sys.executable, "-m", "pipelines.sample", "model=x", "--cfg", "job"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert "model: x" in shown.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names of the files that an installation brings."""
    folder = tmp_path_factory.mktemp("wheel")
    hidden = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "tests", "__pycache__")
    shutil.copytree(ROOT, folder / "source", ignore=hidden)
    (folder / "source" / "tests").mkdir()
    (folder / "source" / "tests" / "__init__.py").touch()
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(folder)]
    made = subprocess.run(command, cwd=folder / "source", capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    (path,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_an_installation_brings_every_file_that_is_read(wheel):
    patterns = ("conf/**/*.yaml", "*/**/*.py", "*/**/*.pyi", "*/py.typed", "*/**/*.css", "*/**/*.html", "*/**/*.j2")
    needed = {
        str(path.relative_to(ROOT))
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if path.relative_to(ROOT).parts[0] in PACKAGES
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= needed
    assert needed <= wheel


def test_an_installation_brings_no_tests(wheel):
    assert {name.partition("/")[0] for name in wheel} == {
        *PACKAGES,
        f"vqvae_prior-{PROJECT['project']['version']}.dist-info",
    }
