import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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


def test_configuration_is_packaged():
    assert PROJECT["tool"]["setuptools"]["package-data"]["conf"] == ["**/*.yaml"]
    assert (ROOT / "conf" / "__init__.py").exists()
    included = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert not any(pattern.startswith("tests") for pattern in included)
