"""Processors are shared among a sweep's jobs that run at the same time."""

import os

import pytest
from omegaconf import OmegaConf

from pipelines.sweep import threads
from pipelines.sweep.threads import jobs_at_once, share_processors

JOBLIB = {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"}
LOCAL = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"}
SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}
SIX = ["seed=0,1,2", "stage2.model.width=range(64,66)", "output=runs/x"]


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for place in ("pipelines.sweep.threads", "pipelines.distributed.threads"):
        monkeypatch.setattr(f"{place}.processors", lambda: 8)


def hydra(launcher, words=SIX, **sweeper):
    return OmegaConf.create({"launcher": launcher, "sweeper": sweeper, "overrides": {"task": words}})


@pytest.mark.parametrize(
    ("config", "jobs"),
    [
        (hydra(BASIC), 1),
        (hydra(SLURM), 1),
        (hydra(LOCAL), 6),
        (hydra(JOBLIB | {"n_jobs": 2}), 2),
        (hydra(JOBLIB | {"n_jobs": 20}), 6),
        (hydra(JOBLIB | {"n_jobs": -1}), 6),
        (hydra(JOBLIB | {"n_jobs": -1}, ["seed=range(100)"]), 8),
        (hydra(JOBLIB | {"n_jobs": 4}, ["x=interval(0,1)"], n_jobs=3), 3),
        (hydra(LOCAL, ["seed=0"]), 1),
    ],
)
def test_jobs_at_once(config, jobs, machine):
    assert jobs_at_once(config) == jobs


def test_the_jobs_environment_shares_the_processors_and_it_is_said(machine, capsys):
    assert share_processors(hydra(JOBLIB | {"n_jobs": 3})) == {threads.VARIABLE: "2"}
    assert os.environ.pop(threads.VARIABLE) == "2"
    assert "3 jobs at a time, 2 threads each" in capsys.readouterr().out
    assert share_processors(hydra(BASIC)) == {}
    assert threads.VARIABLE not in os.environ


def test_a_number_of_the_users_is_left_alone(machine, monkeypatch, capsys):
    monkeypatch.setenv(threads.VARIABLE, "5")
    assert share_processors(hydra(LOCAL)) == {}
    assert "6 jobs at a time, 5 threads each" in capsys.readouterr().out
