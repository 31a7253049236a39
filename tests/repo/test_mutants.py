"""``make mutants``: which tests belong to a file, and what Mutmut is told."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import mutants
from tests.support.pages import ROOT


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("stage1_vqvae/losses.py", "tests/stage1_vqvae/test_losses.py"),
        ("stage1_vqvae/quantizers/shapes.py", "tests/stage1_vqvae/quantizers"),  # without a test of its own
    ],
)
def test_the_tests_of_a_file_are_its_mirror(path, expected):
    assert mutants.tests_of(Path(path)) == expected


@pytest.mark.parametrize("path", ["stage1_vqvae/nothing.py", "conf/config.yaml", "README.md"])
def test_other_files_are_refused(path):
    with pytest.raises(SystemExit, match=f"{path}: a file below stage1_vqvae, stage2_prior, pipelines expected"):
        mutants.tests_of(Path(path))


def test_what_mutmut_is_told_is_toml():
    told = tomllib.loads(mutants.settings_of([Path("stage1_vqvae/losses.py")], ["tests/a.py", "tests/b.py"]))["tool"][
        "mutmut"
    ]
    assert told["only_mutate"] == ["stage1_vqvae/losses.py"]
    assert told["pytest_add_cli_args_test_selection"] == ["tests/a.py", "tests/b.py"]


@pytest.mark.slow
def test_mutants_that_tests_do_not_notice_are_shown():
    half_blind = "tests/stage2_prior/test_norms.py::test_normalised_is_over_the_root_mean_square"
    command = [sys.executable, "-m", "tests.mutants", "stage2_prior/norms.py", "--tests", half_blind]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 1, shown.stdout + shown.stderr
    assert "-    return super().forward(x.movedim(1, -1)).movedim(-1, 1)" in shown.stdout
    assert "+    return super().forward(x.movedim(1, -1)).movedim(-1, 2)" in shown.stdout
    assert "+    norm = None" not in shown.stdout  # which the test notices
