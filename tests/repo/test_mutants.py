"""``make mutants``: which tests belong to a file, what is broken, and what is shown."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import __main__ as tool
from tests.mutants.decorated import without_decorators
from tests.mutants.listed import mutants_of
from tests.support.pages import ROOT


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("stage1_vqvae/losses.py", ["tests/stage1_vqvae/test_losses.py"]),
        (
            "stage1_vqvae/quantizers/vector.py",
            [f"tests/stage1_vqvae/quantizers/{name}.py" for name in ("test_vector", "test_vector_revival")],
        ),
        ("stage1_vqvae/quantizers/wrappers.py", ["tests/stage1_vqvae/quantizers"]),  # without a test of its own
    ],
)
def test_the_tests_of_a_file_are_its_mirror_and_its_parts(path, expected):
    assert tool.tests_of(Path(path)) == expected


@pytest.mark.parametrize("path", ["stage1_vqvae/nothing.py", "conf/config.yaml", "README.md"])
def test_other_files_are_refused(path):
    with pytest.raises(SystemExit, match=f"{path}: a file below stage1_vqvae, stage2_prior, pipelines expected"):
        tool.tests_of(Path(path))


DECORATED = '''
import functools


def twice(function):
    return lambda *each: 2 * function(*each)


@functools.cache
@twice
def half(x):
    """Of x."""
    if x < 0:
        raise ValueError(f"at least 0, got {x}")
    return x / 2


class Box:
    @property
    def size(self):
        return 3

    @staticmethod
    def one():
        return 1
'''


def test_functions_without_their_decorators_do_the_same():
    plain = without_decorators(DECORATED)
    functions = [node for node in ast.walk(ast.parse(plain)) if isinstance(node, ast.FunctionDef)]
    assert [each.name for each in functions if each.decorator_list] == ["one"]  # Mutmut knows static methods
    names = {}
    exec(plain, names)
    assert (names["half"](5), names["Box"]().size, names["Box"].one()) == (5, 3, 1)
    assert hasattr(names["half"], "cache_clear")


def test_every_line_is_broken_and_messages_are_idle(tmp_path):
    (tmp_path / "a.py").write_text(without_decorators(DECORATED))
    (tmp_path / "pyproject.toml").write_text(tool.SETTINGS)
    found = {mutant.difference.partition("\n")[2]: mutant for mutant in mutants_of(Path("a.py"), tmp_path)}
    assert not found["-return x / 2\n+return x * 2"].is_idle
    assert not found["-return 3\n+return 4"].is_idle
    assert not next(mutant for text, mutant in found.items() if "+if x <= 0" in text).is_idle
    assert [mutant.is_idle for text, mutant in found.items() if "ValueError(None)" in text] == [True]
    namespace = {}
    exec((tmp_path / "a.py").read_text(), namespace)  # what was written still runs
    assert namespace["half"](5) == 5


def test_a_sample_is_the_same_every_time():
    assert tool.drawn(list("abcdef"), 3) == tool.drawn(list("abcdef"), 3)
    assert len(set(tool.drawn(list("abcdef"), 3))) == 3
    assert tool.drawn(list("abc"), 3) == list("abc")


@pytest.mark.slow
def test_mutants_that_tests_do_not_notice_are_shown():
    tests = "tests/pipelines/training/test_step_seed.py"
    half_blind = f"{tests}::test_numbers_are_a_function_of_seed_batch_and_rank"
    command = [sys.executable, "-m", "tests.mutants", "pipelines/training/step_seed.py", "--tests", half_blind]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 1, shown.stdout + shown.stderr
    assert "-    torch.get_device_module(pl_module.device).manual_seed(number)" in shown.stdout
    assert "+    torch.get_device_module(None).manual_seed(number)" in shown.stdout
    assert "+entropy = None" not in shown.stdout  # which the test notices
    assert f"noticed by {tests}" in shown.stdout
