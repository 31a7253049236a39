import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.cli.arguments import as_given, without_hyphens
from pipelines.config.schema import check_settings
from pipelines.tracking.job import Job
from pipelines.tracking.metrics import goal
from pipelines.tracking.wandb_identity import run_id
from tests.support.tiny import compose
from tests.support.wandb_runs import inspect, runs

PAGE = Path(__file__).parents[3] / "docs" / "tracking.md"


@pytest.fixture(autouse=True)
def no_agent(monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)


def ids_of(folder):
    return {stage: run_id(Job.of(folder, stage, {})) for stage in ("stage1", "stage2")}


def test_every_stage_keeps_its_own_id(tmp_path):
    ids = ids_of(tmp_path / "run")
    assert len(set(ids.values())) == 2
    assert ids_of(tmp_path / "run") == ids


def test_a_copied_folder_gets_ids_of_its_own_and_a_moved_one_keeps_them(tmp_path):
    ids = ids_of(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    copied = ids_of(tmp_path / "copy")
    assert not set(ids.values()) & set(copied.values())
    assert ids_of(tmp_path / "copy") == copied
    (tmp_path / "run").rename(tmp_path / "moved")
    assert ids_of(tmp_path / "moved") == ids
    assert ids_of(tmp_path / "copy") == copied


def test_ids_of_version_0_1_0_are_kept(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "wandb_ids.json").write_text(json.dumps({"stage1": "0a1b2c3d"}))
    assert ids_of(tmp_path)["stage1"] == "0a1b2c3d"


def test_a_given_id_is_of_the_stage_that_the_run_is_judged_by(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    ids = ids_of(tmp_path / "run")
    assert ids["stage2"] == "given" != ids["stage1"]
    monkeypatch.delenv("WANDB_RUN_ID")
    assert ids_of(tmp_path / "run")["stage1"] == ids["stage1"]


TRACK = """
import sys
from pathlib import Path
from pipelines.tracking.job import Job
from pipelines.tracking.wandb import Wandb

for stage in ("stage1", "stage2"):
    with Wandb(**eval(sys.argv[1])).track(Job.of(Path("run"), stage, {"command": "run"})) as loggers:
        loggers[1].log_metrics({"loss": 1.0}, 1)
"""


def tracked(folder, environment, **settings):
    """Tracks two stages in a process of its own, since wandb reads its variables once; what wandb wrote, by stage."""
    command = [sys.executable, "-c", TRACK, repr(settings)]
    subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True)
    found = [inspect(run) for run in runs(folder / "run")]
    return {run["job_type"]: run for run in found}


@pytest.mark.slow
def test_an_agents_run_is_the_stage_that_the_sweep_judges(tmp_path):
    found = tracked(tmp_path, {"WANDB_SWEEP_ID": "sweep", "WANDB_RUN_ID": "agent", "WANDB_PROJECT": "of-the-sweep"})
    assert (found["stage2"]["id"], found["stage2"]["sweep_id"]) == ("agent", "sweep")
    assert found["stage1"]["id"] != "agent"
    assert not found["stage1"]["sweep_id"]
    assert {run["project"] for run in found.values()} == {"of-the-sweep"}


@pytest.mark.parametrize("arguments", ["args_no_hyphens", "args"])
def test_the_sweep_of_the_page_is_a_command_that_composes(arguments):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    (sweep,) = (yaml.safe_load(text) for language, text in re.findall(r"```(yaml)\n(.*?)```", PAGE.read_text(), re.S))
    drawn = {
        "stage2.optimization.learning_rate": sweep["parameters"]["stage2.optimization.learning_rate"]["min"],
        "stage2.model.width": sweep["parameters"]["stage2.model.width"]["values"][1],
    }
    assert set(drawn) == set(sweep["parameters"])
    replaced = create_sweep_command_args({"args": {key: {"value": value} for key, value in drawn.items()}})
    replaced["program"] = [sweep["program"]]
    words = []
    for word in create_sweep_command([word.replace("args_no_hyphens", arguments) for word in sweep["command"]]):
        words += replaced[word[2:-1]] if word.startswith("${") else [word]  # as wandb's agent does it
    assert words[:3] == ["python", "-m", "pipelines.run"]
    settings = compose(*as_given(without_hyphens(words[3:])))
    check_settings(settings, "config")
    assert settings["stage2"]["optimization"]["learning_rate"] == drawn["stage2.optimization.learning_rate"]
    assert settings["stage2"]["model"]["width"] == drawn["stage2.model.width"]
    metric = sweep["metric"]
    assert metric["name"].startswith("validation/")
    assert {"minimize": "min"}[metric["goal"]] == goal(metric["name"].replace("validation/", "stage2."))


@pytest.mark.slow
def test_wandbs_variables_are_respected_and_settings_come_first(tmp_path):
    variables = {"PROJECT": "p", "ENTITY": "e", "NAME": "n", "RUN_GROUP": "g", "TAGS": "a,b", "NOTES": "words"}
    environment = {f"WANDB_{name}": value for name, value in variables.items()}
    run = tracked(tmp_path, environment)["stage1"]
    names = ("project", "entity", "display_name", "group", "tags", "notes")
    assert [run[name] for name in names] == ["p", "e", "n-stage1", "g", ["a", "b"], "words"]
    (tmp_path / "again").mkdir()
    settings = {"project": "q", "entity": "f", "name": "m", "group": "h", "tags": ["c"], "notes": "others"}
    run = tracked(tmp_path / "again", environment, **settings)["stage1"]
    assert [run[name] for name in names] == ["q", "f", "m-stage1", "h", ["c"], "others"]


@pytest.mark.slow
def test_wandbs_folder_is_respected(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    tracked(tmp_path, {"WANDB_DIR": str(tmp_path / "elsewhere")})
    assert len(list((tmp_path / "elsewhere" / "wandb").glob("offline-run-*"))) == 2
    assert not (tmp_path / "run" / "logs" / "wandb").exists()
