import re
import sys
from pathlib import Path

import pytest

from pipelines.cli.command import asked_for_info
from pipelines.config.conf import comments_of, options
from pipelines.run import main
from pipelines.sample import main as sample
from tests.support.tiny import compose


@pytest.fixture
def info(monkeypatch, capsys):
    def show(*words, command=main):
        monkeypatch.setattr(sys, "argv", ["run", "--info", *words])
        monkeypatch.setenv("COLUMNS", "400")
        command()
        return capsys.readouterr().out

    return show


def test_every_key_of_the_configuration_is_there_with_type_and_meaning(info):
    shown = info("stage2=pixelcnn")
    settings = compose("stage2=pixelcnn")

    def keys(node, path=""):
        for key, value in node.items():
            yield from keys(value, f"{path}{key}.") if isinstance(value, dict) and value else [f"{path}{key}"]

    for key in (key for key in keys(settings) if not key.startswith("stage1.model.quantizer.")):  # ${stage1.quantizer}
        assert re.search(rf"^{re.escape(key)} = ", shown, flags=re.M), key
    assert "stage1.quantizer.codebook_size = 512  int" in shown
    assert "hardware.devices = 1  int or auto" in shown
    assert "share of labels masked in training, for guidance" in shown  # a comment
    assert "Steps between checkpoints to resume from" in shown  # a docstring
    assert "weight of the commitment term" in shown  # a base class's
    assert "stage2.trainer.max_steps = 4000  int" in shown  # of a node without a target
    assert "Keep the likeliest codes" in shown or "only the likeliest codes that hold" in shown
    assert not re.search(":class:|``", shown)  # no markup


def test_every_option_is_there_with_its_first_comment(info):
    shown = info()
    for path in (Path(__file__).parents[3] / "conf").rglob("*.yaml"):
        group = path.parent.relative_to(Path(__file__).parents[3] / "conf")
        if str(group) not in (".", "hydra") and not path.stem.startswith("_"):
            assert f"{group}={path.stem}" in shown
    assert "A gated PixelCNN (arXiv 1606.05328), one stack per grid." in shown


def test_only_what_lies_below_a_key(info):
    shown = info("stage1.quantizer")
    assert "stage1.quantizer.dim" in shown
    assert "stage2" not in shown
    assert "no such key" in info("stage3")


def test_every_command_has_it(info):
    assert "temperature = recipe" in info(command=sample)


def test_hydras_own_flag_is_left_to_hydra():
    assert asked_for_info(["--info"])
    assert asked_for_info(["--info", "stage1"])
    assert not asked_for_info(["--info", "defaults-tree"])
    assert not asked_for_info(["seed=1"])


@pytest.mark.parametrize(
    "group", ["data", "stage1", "stage1/quantizer", "stage1/objective", "stage2", "hardware", "logger"]
)
def test_every_option_says_what_it_is(group):
    assert options(group)
    assert all(options(group).values())


def test_comments_stand_behind_a_key_or_above_it(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("# The file.\na: 1  # one\n# of b\n# and b\nb:\n  c: x#y  # two\nd: 3\n\n# loose\n\ne: 4\n")
    assert comments_of(file, "g") == {"g.a": "one", "g.b": "of b and b", "g.b.c": "two"}
