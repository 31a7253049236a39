"""Commands work in any folder, whatever a user keeps there."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.run import main
from tests.support.commands import forked_output

RAISES = "raise SystemExit('a file of the user was imported')\n"


@pytest.fixture
def folder(tmp_path):
    """A folder of a user's whose names are those of our folders and of libraries."""
    for name in ("conf", "tests", "pipelines", "stage1_vqvae"):  # without code, as folders of data are
        (tmp_path / name).mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("mine: 1\n")
    for name in ("torch.py", "yaml.py", "numpy.py", "hydra/__init__.py", "omegaconf/__init__.py", "conf/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(RAISES)
    return tmp_path


MODULE, SCRIPT = [sys.executable, "-m", "pipelines.run"], [str(Path(sys.executable).parent / "vqvae-run")]


@pytest.mark.parametrize("start", [MODULE, SCRIPT], ids=["module", "script"])
def test_our_own_configuration_is_found(start, folder):
    if not Path(start[0]).exists():
        pytest.skip("console scripts are not installed")
    shown = subprocess.run([*start, "--cfg", "job"], cwd=folder, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "stage1:" in shown.stdout
    assert "mine" not in shown.stdout


def test_names_in_the_current_folder_hide_nothing(folder):
    command = [*MODULE, "n=0", "logger=csv", "output=made"]
    refused = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert refused.stderr == "error: n is at least 1, got 0\n"  # torch and the models are imported by then


def test_trusted_packages_of_the_current_folder_are_found(folder):
    (folder / "mine.py").write_text(
        "from stage2_prior.transformer import Transformer\n\n\n"
        "class Wide(Transformer):\n    def __init__(self, layout, num_classes=0, width: int = 64):\n"
        "        raise ValueError(f'width {width} reached')\n"
    )
    option = folder / "options" / "stage2" / "wide.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("# Nothing but a model.\nmodel:\n  _target_: mine.Wide\n  width: 32\n")
    words = [f"hydra.searchpath=[file://{folder}/options]", "stage2=wide", "trust=[mine]", "logger=csv", "output=made"]
    assert forked_output(main, words, folder) == (1, "error: stage2.model: width 32 reached\n")
    mistyped = [*words, "stage2.model.width=x"]
    assert forked_output(main, mistyped, folder) == (1, "error: stage2.model.width: int expected, got 'x'\n")
