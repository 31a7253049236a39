"""A sweep: jobs that share stage one, one that fails, records, the objective, nothing left behind."""

import csv
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessExitedException

from pipelines.run import main
from pipelines.sweep.records import read_records
from pipelines.tracking.metrics import objective_value, objectives
from stage1_vqvae.files import read_json, read_yaml, write_yaml
from tests.support.tiny import TINY
from tests.support.wandb_runs import inspect, runs

FEW = {"n": 4, "stage1.batch_size": 64, "stage2.batch_size": 64}
FEW |= {f"{stage}.trainer.{name}": 2 for stage in ("stage1", "stage2") for name in ("max_steps", "validate_every")}
FEWER = [*(word for word in TINY if word.partition("=")[0] not in FEW), *(f"{key}={n}" for key, n in FEW.items())]
"""Of a sweep's many trainings each is as short as can be."""


@pytest.fixture
def sweep(monkeypatch, capfd, tmp_path):
    """Exit code and output of a sweep into ``tmp_path/sweep``."""

    def launch(*words, tiny=FEWER):
        monkeypatch.chdir(tmp_path)
        swept = {word.partition("=")[0] for word in words}
        rest = [word for word in tiny if word.partition("=")[0] not in swept]
        monkeypatch.setattr(sys, "argv", ["run", "-m", *rest, "output=sweep", *words])
        before = dict(os.environ)
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code
        left = {key: value for key, value in os.environ.items() if before.get(key) != value}
        assert set(left) <= {"HYDRA_FULL_ERROR", "PL_GLOBAL_SEED", "PL_SEED_WORKERS", "VQVAE_PRIOR_TMP"} | {
            key for key in left if key.startswith(("WANDB", "KMP", "TORCH", "CUBLAS"))
        }
        assert not dist.is_initialized()
        return code, capfd.readouterr()

    return launch


@pytest.mark.slow
def test_jobs_share_stage_one_and_one_that_fails_leaves_the_others(sweep, tmp_path):
    tiny = [word for word in FEWER if word != "logger=csv"]
    failing = "callbacks.stage2=[],[{_target_:tests.support.own_classes.Fail}]"
    code, said = sweep(failing, "trust=[tests]", tiny=tiny)
    folder = tmp_path / "sweep"
    assert code == 1
    assert "out of luck" in said.err
    assert [record.status for record in read_records(folder)] == ["finished", "failed"]
    assert read_records(folder)[1].error == "out of luck"

    (tokenizer,) = [path for path in (folder / "shared").glob("tokenizer-*") if path.is_dir()]
    (codes,) = [path for path in (folder / "shared").glob("codes-*") if path.is_dir()]
    made = (tokenizer / "tokenizer" / "model.safetensors").stat()
    for job in "01":
        assert (folder / job / "tokenizer" / "model.safetensors").stat().st_ino == made.st_ino
    assert (folder / "0" / "report.html").exists()

    stages = [(run["job_type"], run["group"]) for path in (tokenizer, codes) for run in map(inspect, runs(path))]
    assert stages == [("stage1", "sweep"), ("extract", "sweep")]
    of_jobs = {job: [inspect(run) for run in runs(folder / job)] for job in "01"}
    assert [[run["job_type"] for run in of_jobs[job]] for job in "01"] == [["stage2", "sample"], ["stage2"]]
    assert {run["group"] for job in "01" for run in of_jobs[job]} == {"sweep"}
    assert len({run["id"] for job in "01" for run in of_jobs[job]}) == 3
    assert [of_jobs[job][0]["exit_code"] for job in "01"] == [0, 1]
    import wandb

    assert wandb.run is None

    table = (folder / "sweep.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == ["0", "1"]  # failed ones last
    assert "1 of 2 jobs did not finish" in said.out
    assert str(folder / "sweep.html") in said.out.replace("\n", "")


def outcome(folder):
    """The table of a sweep but for the time that its jobs took and where they lie."""
    rows = list(csv.DictReader((folder / "sweep.csv").open()))
    return [{key: value for key, value in row.items() if key not in ("seconds", "output")} for row in rows]


@pytest.mark.slow
def test_a_stopped_sweep_is_ended_by_the_same_command_and_widened_by_another(sweep, monkeypatch, tmp_path):
    """Stopped at its second job of three; one job has a mistake; later a value is put in front."""
    from pipelines.tasks import run

    def stop(settings):
        if settings["stage2"]["label_dropout"] == 0.2:
            raise SystemExit(143)
        return train_stage2(settings)

    train_stage2 = run.train_stage2
    words = "stage2.label_dropout=0.1,0.2,2"
    with monkeypatch.context() as context:
        context.setattr(run, "train_stage2", stop)
        assert sweep(words)[0] == 143
    folder = tmp_path / "sweep"
    assert [record.status for record in read_records(folder)] == ["finished", "stopped"]
    made = (folder / "0" / "prior" / "model.safetensors").stat()
    assert sweep(words)[0] == 1
    assert [record.status for record in read_records(folder)] == ["finished", "finished", "failed"]
    assert (folder / "0" / "prior" / "model.safetensors").stat() == made
    first = outcome(folder)

    assert sweep("stage2.label_dropout=0.3,0.2,0.1")[0] == 0
    assert {row["job"]: row["stage2.label_dropout"] for row in outcome(folder)} == {"0": "0.1", "1": "0.2", "2": "0.3"}

    shutil.move(folder, tmp_path / "stopped")
    assert sweep(words)[0] == 1
    assert outcome(folder) == first


@pytest.mark.slow
def test_metrics_of_another_run_in_a_jobs_folder_are_not_the_jobs(sweep, tmp_path):
    assert sweep("n=4,5")[0] == 0
    folder = tmp_path / "sweep"
    settings = read_yaml(folder / "0" / "prior" / "settings.yaml")
    settings["stage2"]["label_dropout"] = 0.7
    write_yaml(folder / "0" / "prior" / "settings.yaml", settings)  # which leaves the other job's file as it is
    code, said = sweep("n=4,5")
    assert code == 1
    assert "holds a prior of other settings" in said.err
    failed = next(row for row in outcome(folder) if row["job"] == "0")
    assert failed["status"] == "failed"
    assert failed["stage2.nats"] == ""
    assert float(failed["stage1.psnr"]) > 0  # its tokenizer is its own
    assert outcome(folder)[0]["job"] == "1"


@pytest.mark.slow
def test_two_processes_a_job_run_that_job_alone(sweep, forked, tmp_path):
    two = ["hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2"]
    code, said = sweep(*two, "stage2.label_dropout=0.1,2,0.2")
    assert code == 1
    folder = tmp_path / "sweep"
    assert sorted(path.name for path in folder.iterdir() if path.name.isdigit()) == ["0", "2"]
    assert [record.status for record in read_records(folder)] == ["finished", "failed", "finished"]
    assert "label_dropout is in [0, 1], got 2" in read_records(folder)[1].error
    for job in ("0", "2"):
        assert (folder / job / "samples" / "grid.png").exists()
    dropouts = {job: read_json(folder / job / "command.json")["overrides"][-1] for job in ("0", "2")}
    assert dropouts == {"0": "stage2.label_dropout=0.1", "2": "stage2.label_dropout=0.2"}
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output=a,b"], "output: a sweep has one folder"),
        (["stage2=nope,transformer"], "nope"),
    ],
)
def test_a_wrong_sweep_is_refused_before_any_job(sweep, words, message, tmp_path):
    code, _ = sweep(*words)
    assert message in code
    assert not (tmp_path / "sweep" / "jobs").exists()


def test_a_sweep_that_torchrun_starts_is_refused_by_every_process(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pipelines.run"]
    two = ["hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2"]
    ended = subprocess.run(
        [*torchrun, "-m", *TINY, *two, "output=sweep", "seed=1,2"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 1
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "hardware=ddp hardware.devices=N" in said
    assert "hydra/launcher=submitit_slurm" in said
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_cannot_start_is_listed(sweep, tmp_path):
    code, said = sweep("codes.copies=0,-1")
    assert code == 1
    assert said.err.count("codes.copies is at least 1") == 2
    assert [record.status for record in read_records(tmp_path / "sweep")] == ["failed", "failed"]
    assert not (tmp_path / "sweep" / "0").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is not installed")
def test_a_search_goes_on_past_a_trial_that_fails(sweep, tmp_path):
    tiny = [word for word in FEWER if not word.startswith("stage2.model.heads")]
    search = ["hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "hydra.sweeper.direction=minimize"]
    code, said = sweep(*search, "hydra.sweeper.n_jobs=1", "stage2.model.heads=choice(4,3,2)", tiny=tiny)
    assert code == 0
    found = {record.overrides[0]: record.status for record in read_records(tmp_path / "sweep")}
    assert {heads[-1]: status for heads, status in found.items()} == {"4": "finished", "3": "failed", "2": "finished"}
    assert "Error executing job" not in said.err
    assert said.err.count("width 16 and 3 heads") == 1


def test_secrets_of_the_command_line_are_nowhere_in_the_sweeps_folder(sweep, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_TOKEN", "t0k3n-of-mine")
    code, _ = sweep("codes.copies=0,-1", "trust=[t0k3n-of-mine]")
    assert code == 1
    files = [path for path in (tmp_path / "sweep").rglob("*") if path.is_file()]
    assert {"multirun.yaml", "0.json", "sweep.csv", "sweep.html"} <= {path.name for path in files}
    assert [
        path for path in files if b"t0k3n-of-mine" in path.read_bytes() or b"k3y-of-mine" in path.read_bytes()
    ] == []


def test_a_job_that_exits_is_listed_and_the_next_one_starts(sweep, tmp_path):
    code, said = sweep("callbacks.stage1=[{_target_:tests.support.own_classes.Exit}]", "trust=[tests]", "seed=1,2")
    assert code == 1
    found = [(record.status, record.error) for record in read_records(tmp_path / "sweep")]
    assert found == [("failed", "the job called sys.exit(3)")] * 2
    assert "2 of 2 jobs did not finish" in said.out


def test_a_job_whose_process_is_killed_leaves_the_others(sweep, forked, tmp_path):
    two = ["hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2", "trust=[tests]"]
    code, said = sweep(*two, "callbacks.stage2=[{_target_:tests.support.own_classes.KillRank,rank:1}],[]")
    assert code == 1
    killed, finished = read_records(tmp_path / "sweep")
    assert (killed.status, finished.status) == ("failed", "finished")
    assert "SIGKILL" in killed.error
    assert "process 1 of 2 was ended by SIGKILL" in said.err
    assert "1 of 2 jobs did not finish" in said.out


def test_jobs_that_could_not_start_are_forgotten_by_the_next_launch(sweep, tmp_path):
    sweep("codes.copies=0,-1,-2")
    code, said = sweep("codes.copies=0")
    assert code == 1
    (record,) = read_records(tmp_path / "sweep")
    assert "codes.copies=0" in record.overrides
    assert "1 of 1 jobs did not finish" in said.out
    assert len((tmp_path / "sweep" / "sweep.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("exit", [SystemExit(143), ProcessExitedException("", 0, 7, 143)])
def test_a_request_to_stop_ends_the_sweep(exit, sweep, monkeypatch, tmp_path):
    def stop(*arguments, **more):
        raise exit

    monkeypatch.setattr("pipelines.cli.process.launch.run_on_all", stop)
    code, _ = sweep("seed=1,2")
    assert code == 143
    assert [record.status for record in read_records(tmp_path / "sweep")] == ["stopped"]


def test_the_objective_is_a_float_of_the_finished_models(tiny_run):
    settings = {"output": str(tiny_run), "objective": None}
    nats = read_json(tiny_run / "prior" / "metrics.json")["nats"]
    psnr = read_json(tiny_run / "tokenizer" / "metrics.json")["psnr"]
    assert objective_value(settings) == nats
    assert objective_value({**settings, "objective": "stage1.psnr"}) == psnr
    assert objective_value({**settings, "objective": ["stage2.nats", "stage1.psnr"]}) == (nats, psnr)


def test_an_objective_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"objective: no metric 'stage2.natz'; did you mean stage2.nats\?"):
        objectives("stage2.natz")
    assert objectives("stage1.usage_1") == ["stage1.usage_1"]  # of the second grid
    with pytest.raises(ValueError, match=r"this command makes no stage2.nats"):
        objective_value({"output": str(tmp_path), "objective": "stage2.nats"})
