"""Every command, benchmark and tool of the tests says how it is used."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    f"{folder.replace('/', '.')}.{path.stem}"
    for folder in ("pipelines", "tests/benchmarks", "tests/faults", "tests/mutants")
    for path in (ROOT / folder).glob("*.py")
    if "def main(" in path.read_text() or "main = " in path.read_text()
)


def test_all_are_found():
    found = {"pipelines.run", "tests.benchmarks.quantizer_step", "tests.faults.__main__", "tests.mutants.__main__"}
    assert found < set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    try:
        code = import_module(name).main()
    except SystemExit as exit:
        code = exit.code
    assert code in (None, 0)
    shown = capsys.readouterr().out
    assert ("usage: " in shown) or ("== Keys: key=value ==" in shown)
    assert list(tmp_path.iterdir()) == []
