"""``pipelines.publish``: a folder beside the run, of all or a part, and to the hub where asked."""

import json
import shutil

import pytest

from pipelines.cli.process import run_task
from tests.support.fake_hub import fake_hub
from tests.support.tiny import compose

TASK = "pipelines.tasks.publish:publish"


def test_publish(tiny_run, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    shown = compose(f"model={run}", command="publish")
    folder = run_task(TASK, shown)
    assert folder == run / "published"
    assert json.loads((folder / "config.json").read_text())["part"] == "all"
    assert "no licence is named" in capsys.readouterr().out

    with fake_hub(monkeypatch, tmp_path / "cache") as hub:
        with pytest.raises(ValueError, match="license: say under which"):
            run_task(TASK, {**shown, "push": "anna/digits"})
        assert hub.requests == []
        run_task(TASK, {**shown, "push": "anna/digits", "license": "mit"})
        assert "README.md" in hub.repositories["anna/digits"][-1]
        assert "sent to hf://anna/digits" in capsys.readouterr().out

    shutil.rmtree(run / "prior")
    with pytest.raises(ValueError, match="no finished prior: part=tokenizer"):
        run_task(TASK, {**shown, "output": str(tmp_path / "tokenizer")})
    folder = run_task(TASK, {**shown, "part": "tokenizer", "output": str(tmp_path / "tokenizer")})
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "tokenizer"]
