"""Breaks lines one at a time and shows which of them no test notices: ``python -m tests.mutants FILE...``.

Mutmut works on a copy of the tree, so a run that is killed leaves nothing behind in the sources. The tests of a file
are its mirror in ``tests/``: those of ``stage1_vqvae/losses.py`` are ``tests/stage1_vqvae/test_losses.py``, and files
beside it whose names begin alike.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.decorated import without_decorators
from tests.mutants.listed import mutants_of

ROOT = Path(__file__).parents[2]
PACKAGES = ("stage1_vqvae", "stage2_prior", "pipelines")
COPIED = (*PACKAGES, "conf", "tests", "pyproject.toml", "README.md")
SETTINGS = f"\n[tool.mutmut]\nsource_paths = {json.dumps(PACKAGES)}\n"
"""What Mutmut reads in ``pyproject.toml``; JSON's lists of strings are TOML's."""


def tests_of(path):
    """The tests of a source file: its mirror with the parts that stand apart, or its folder's where it has none.

    Raises:
        SystemExit: If there is no such file in one of the packages, or no test.
    """
    if path.parts[:1] not in [(package,) for package in PACKAGES] or not (ROOT / path).is_file():
        sys.exit(f"{path}: a file below {', '.join(PACKAGES)} expected")
    folder = Path("tests") / path.parent
    mirror = folder / f"test_{path.name}"
    if (ROOT / mirror).exists():
        parts = (ROOT / folder).glob(f"test_{path.stem}_*.py")
        return [str(mirror), *sorted(str(part.relative_to(ROOT)) for part in parts)]
    return [str(folder)] if (ROOT / folder).exists() else sys.exit(f"{path}: no tests, {mirror} expected, or TESTS=...")


def copy_the_tree(folder, paths):
    """Copy into ``folder`` what tests need, with the functions of ``paths`` ready to be broken."""
    for part in COPIED:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    for path in paths:
        (folder / path).write_text(without_decorators((ROOT / path).read_text()))
    with (folder / "pyproject.toml").open("a") as file:
        file.write(SETTINGS)


def judged(groups, folder):
    """What became of each mutant by its name, and the tests that fail without any.

    Args:
        groups: Names of mutants with the tests that judge them, ``{"mutants": [...], "tests": [...]}``.
        folder: A copy of the tree with the mutants in it.
    """
    plan, results = folder / "plan.json", folder / "results.json"
    plan.write_text(json.dumps({"groups": groups, "results": str(results)}))
    command = [sys.executable, "-m", "tests.mutants.runner", str(plan)]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(finished.stdout[-4000:] + finished.stderr[-4000:])
    found = json.loads(results.read_text())
    return found["known"], found["failing"]


def main():
    """Print the difference of every mutant that the tests let through; exit code 1 if there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path, help="source files")
    parser.add_argument("--tests", nargs="*", help="tests to run, instead of the files' own")
    parser.add_argument("--sample", type=int, help="run so many of the mutants of each file, the same ones every time")
    asked = parser.parse_args()
    tests = {path: asked.tests or tests_of(path) for path in asked.paths}
    for test in asked.tests or []:  # they run in the copy
        if Path(test).is_absolute() or not (ROOT / test.partition("::")[0]).exists():
            sys.exit(f"{test}: a test of this project expected, as tests/stage1_vqvae/test_losses.py")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_the_tree(folder, asked.paths)
        listed = {path: [each for each in mutants_of(path, folder) if not each.is_idle] for path in asked.paths}
        run = {path: drawn(mutants, asked.sample) for path, mutants in listed.items()}
        groups = [{"mutants": [each.name for each in run[path]], "tests": tests[path]} for path in asked.paths]
        states, failing = judged(groups, folder)
    if failing:
        print(f"left out, since they fail in the copy as it is: {', '.join(failing)}\n")
    survivors = 0
    for path, mutants in run.items():
        left = [each for each in mutants if states[each.name] == "survived"]
        survivors += len(left)
        for each in left:
            print(f"{each.difference}\n")
        of = f" of {len(listed[path])}" if len(mutants) < len(listed[path]) else ""
        print(f"{path}: {len(mutants)}{of} mutants, {len(mutants) - len(left)} noticed by {', '.join(tests[path])}")
    sys.exit(1 if survivors else 0)


def drawn(mutants, number):
    """All mutants, or ``number`` of them at random, the same ones every time, in their order."""
    if number is None or number >= len(mutants):
        return mutants
    return [mutants[i] for i in sorted(random.Random(0).sample(range(len(mutants)), number))]


if __name__ == "__main__":
    main()
