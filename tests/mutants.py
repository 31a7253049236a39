"""Breaks lines one at a time and shows which of them no test notices: ``python -m tests.mutants FILE...``.

Mutmut works on a copy of the tree, so a run that is killed leaves nothing behind in the sources. The tests of a file
are its mirror in ``tests/``: those of ``stage1_vqvae/losses.py`` are ``tests/stage1_vqvae/test_losses.py``.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("stage1_vqvae", "stage2_prior", "pipelines")
COPIED = (*PACKAGES, "conf", "tests", "pyproject.toml", "README.md")


def tests_of(path):
    """The tests of a source file: its mirror, or all tests of its folder where it has none.

    Raises:
        SystemExit: If there is no such file in one of the packages, or no test.
    """
    if path.parts[:1] not in [(package,) for package in PACKAGES] or not (ROOT / path).is_file():
        sys.exit(f"{path}: a file below {', '.join(PACKAGES)} expected")
    folder = Path("tests") / path.parent
    mirror = folder / f"test_{path.name}"
    found = next((test for test in (mirror, folder) if (ROOT / test).exists()), None)
    return str(found) if found else sys.exit(f"{path}: no tests, {mirror} expected, or TESTS=...")


def settings_of(paths, tests):
    """The section of ``pyproject.toml`` that Mutmut reads; JSON's lists of strings are TOML's."""
    return "\n".join(
        [
            "\n[tool.mutmut]",
            f"source_paths = {json.dumps(PACKAGES)}",
            f"only_mutate = {json.dumps([str(path) for path in paths])}",
            'also_copy = ["conf", "tests", "README.md"]',
            f"pytest_add_cli_args_test_selection = {json.dumps(tests)}",
            "timeout_constant = 30.0  # seconds, of a busy machine",
            "",
        ]
    )


def mutmut(*words, folder):
    """What a command of Mutmut says, without its progress."""
    command = [str(Path(sys.executable).parent / "mutmut"), *words]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(finished.stdout.replace("\r", "\n")[-4000:] + finished.stderr[-4000:])
    return finished.stdout


def main():
    """Print the difference of every mutant that the tests let through; exit code 1 if there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="source files")
    parser.add_argument("--tests", nargs="*", help="tests to run, instead of the files' own")
    asked = parser.parse_args()
    tests = asked.tests or sorted({tests_of(path) for path in asked.paths})
    for test in tests:  # they run in the copy
        if Path(test).is_absolute() or not (ROOT / test.partition("::")[0]).exists():
            sys.exit(f"{test}: a test of this project expected, as tests/stage1_vqvae/test_losses.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in COPIED:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        with (folder / "pyproject.toml").open("a") as file:
            file.write(settings_of(asked.paths, tests))
        mutmut("run", "--max-children", "1", folder=folder)
        results = re.findall(r"^\s*(\S+): (.+)$", mutmut("results", "--all", "true", folder=folder), flags=re.M)
        left = [(mutant, state) for mutant, state in results if state not in ("killed", "timeout")]
        for mutant, state in left:
            print(mutmut("show", mutant, folder=folder) or f"{mutant}: {state}")
    shown = f"{len(results)} mutants of {', '.join(map(str, asked.paths))}, {len(results) - len(left)} noticed"
    print(f"{shown} by {', '.join(tests)}")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
