"""Hydra's launchers and sweepers that come apart, where they are installed: ``[sweep]`` and ``[cluster]``."""

from importlib.util import find_spec

import pytest

from pipelines.config.hydra_versions import IS_1_3
from pipelines.run import main
from pipelines.sweep.records import read_records
from pipelines.sweep.table import Sweep
from tests.support.commands import forked_output
from tests.support.tiny import TINY

pytestmark = pytest.mark.slow


FORKS = ["hydra.launcher.backend=multiprocessing"] if IS_1_3 else []
"""Jobs in copies of the launching process: nothing is imported anew. Hydra 1.4 refuses our tasks there."""


def sweep(folder, *words):
    """A sweep in a process of its own: its exit code and output."""
    return forked_output(main, ["-m", *TINY, "output=sweep", *words], folder)


@pytest.mark.parametrize(
    ("package", "launcher"),
    [
        ("hydra_plugins.hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *FORKS]),
        ("hydra_plugins.hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
    ],
)
def test_jobs_that_run_at_once_share_stage_one_and_one_that_fails_leaves_the_others(package, launcher, tmp_path):
    installed("hydra_plugins", package)
    code, said = sweep(tmp_path, *launcher, "stage2.label_dropout=0.1,2,0.2")
    assert code == 1, said
    folder = tmp_path / "sweep"
    assert [record.status for record in read_records(folder)] == ["finished", "failed", "finished"], said
    assert len([path for path in (folder / "shared").glob("tokenizer-*") if path.is_dir()]) == 1
    inodes = {(folder / job / "tokenizer" / "model.safetensors").stat().st_ino for job in "02"}
    assert len(inodes) == 1
    assert "1 of 3 jobs did not finish" in said
    assert (folder / "sweep.html").exists()


def test_new_processes_know_of_what_sweep_their_jobs_are(tmp_path):
    """Joblib's own kind of process; the jobs end before they import torch."""
    installed("hydra_plugins", "hydra_plugins.hydra_joblib_launcher")
    code, said = sweep(tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=-1,-2")
    assert code == 1, said
    records = read_records(tmp_path / "sweep")
    assert [record.status for record in records] == ["failed", "failed"], said
    assert {record.error for record in records} == {f"seed is from 0 to 2^32 - 1, got {seed}" for seed in (-1, -2)}
    assert "2 jobs at a time" in said
    assert [list(record.passes) for record in records] == [list(records[0].passes)] * 2 != [[""]] * 2


def installed(*packages):
    """Skip the test unless packages are."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def test_optuna_gets_the_objective(tmp_path):
    installed("hydra_plugins", "hydra_plugins.hydra_optuna_sweeper")
    words = ["hydra/sweeper=optuna", "hydra.sweeper.direction=minimize", "hydra.sweeper.n_trials=2"]
    words += ["hydra.sweeper.n_jobs=1", "stage2.optimization.learning_rate=interval(0.0001,0.01)"]
    code, said = sweep(tmp_path, *words)
    assert code == 0, said
    rows = Sweep.read(tmp_path / "sweep").rows
    assert [row.record.status for row in rows] == ["finished", "finished"]
    assert f"job {rows[0].record.number}: finished, {rows[0].metrics['stage2.nats']:.5g}" in said
    # The same command draws new trials.
    code, said = sweep(tmp_path, *words)
    assert code == 0, said
    again = Sweep.read(tmp_path / "sweep").rows
    assert sorted(row.record.number for row in again) == [0, 1, 2, 3]
    assert {row.record.status for row in again} == {"finished"}
    assert {row.metrics["stage2.nats"] for row in rows} < {row.metrics["stage2.nats"] for row in again}
