"""The notebooks of ``docs/notebooks`` run as they stand, in one kernel, with the smallest settings."""

import copy
import os
from pathlib import Path

import pytest
import yaml

from tests.support.tiny import TINY

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
SETTINGS = "settings = {}"
LEFT = """
import gc
from pytorch_lightning import LightningModule, Trainer
gc.collect()
print([type(one).__name__ for one in gc.get_objects() if issubclass(type(one), (LightningModule, Trainer))])
"""


WRONG_ORDER = """
from pipelines import train_prior
train_prior(images, labels, output="runs/other", settings=settings)
"""
WRONG_SETTING = """
train(labels=labels, images=images, output="runs/other", settings={**settings, "stage2.model.width": 15})
"""


def cells(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The cells of all notebooks, run one after another; the cell that trains stands there twice."""
    folder = tmp_path_factory.mktemp("notebooks")
    words = (word.partition("=") for word in TINY if not word.startswith("experiment="))
    small = {key: yaml.safe_load(value) for key, _, value in words}
    interrupt = {"_target_": "tests.support.interrupting.Interrupt", "step": 1, "done": str(folder / "interrupted")}
    small |= {"callbacks.stage1": [interrupt], "trust": ["tests"]}
    first = cells("own_images")
    (place,) = [number for number, cell in enumerate(first) if SETTINGS in cell.source]
    first[place].source = first[place].source.replace(SETTINGS, f"settings = {small!r}")
    interrupted = copy.deepcopy(first[place])
    failing = [nbformat.v4.new_code_cell(text) for text in (WRONG_ORDER, WRONG_SETTING)]
    for cell in (interrupted, *failing):
        cell.metadata["tags"] = ["raises-exception"]
    first[place:place] = [interrupted, *failing]
    book = nbformat.v4.new_notebook(cells=[*first, *cells("a_look_inside"), nbformat.v4.new_code_cell(LEFT)])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    client = nbclient.NotebookClient(
        book, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    return [cell for cell in book.cells if cell.cell_type == "code"]


def find(executed, text):
    return [cell for cell in executed if text in cell.source]


def shown(cell, kind="text/plain"):
    """What the outputs of a cell hold of a kind, and the lines that it printed."""
    printed = [output.text for output in cell.outputs if output.output_type == "stream"]
    return printed, [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]


def test_an_interruption_stops_at_the_next_step_and_the_same_cell_goes_on(executed):
    first, second = find(executed, "train(images")
    assert first.outputs[-1].ename == "KeyboardInterrupt"
    assert first.outputs[-1].evalue == "stopped: the same call goes on from here"
    assert "after step 1:" in "".join(shown(first)[0])
    assert "going on from" in "".join(shown(second)[0])
    assert "Generator of 28×28 images" in shown(second)[1][-1]


def test_cells_that_fail_say_one_line_and_leave_the_next_ones_as_they_were(executed):
    for text, message in ((WRONG_ORDER, "train it first"), (WRONG_SETTING, "width 15 and 2 heads")):
        (cell,) = find(executed, text.strip())
        assert cell.outputs[-1].ename == "ValueError"
        assert message in cell.outputs[-1].evalue
        assert "\n" not in cell.outputs[-1].evalue


def test_progress_is_one_line_and_pictures_are_replaced(executed):
    _, cell = find(executed, "train(images")
    printed, texts = shown(cell)
    of_stages = [text for text in texts if text.startswith("stage")]
    assert [text.partition(" of ")[0].rpartition(":")[0] for text in of_stages] == [
        "stage 1: tokenizer",
        "stage 2: prior",
    ]
    assert all("steps/s" in text and "val " in text and "\n" not in text for text in of_stages)
    assert len(shown(cell, "image/png")[1]) == 2  # reconstructions and samples, each the newest alone
    assert len("".join(printed).splitlines()) < 25


def test_a_look_inside_shows_samples_and_numbers(executed):
    (cell,) = find(executed, "generator.metrics")
    assert "'psnr'" in shown(cell)[1][-1]
    (cell,) = find(executed, "generator.complete")
    assert shown(cell, "image/png")[1]


def test_nothing_of_a_training_is_left_in_memory(executed):
    assert shown(executed[-1])[0] == ["[]\n"]
