import contextlib
import json
import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from pipelines.tracking.csv import read_metrics
from pipelines.tracking.job import Artifact, Job
from pipelines.tracking.wandb import STEP, Wandb, WandbRunLogger
from tests.support.wandb_runs import inspect, runs


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "run", "stage1", "run", "run", {"seed": 3, "nested": {"lr": 0.1}})


@pytest.mark.slow
def test_wandb_writes_offline_and_continues_its_run(job, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with Wandb().track(job) as loggers:
        loggers[1].log_metrics({"validation/psnr": 20.5, "validation/mse": 0.5, "epoch": 0}, 1)
        loggers[1].log_metrics({"validation/psnr": 19.0, "validation/mse": 0.75}, 2)
        assert not loggers[1].experiment.settings.x_disable_stats  # system metrics
        loggers[1].log_image("samples", [Image.new("L", (4, 4))], 1)
        loggers[1].log_histogram("codebook", np.array([3, 0, 5]), 1)
        loggers[1].log_lineage(Artifact("tokenizer", "ab" * 32), [])
        loggers[1].log_summary({"psnr": 19.5})
    import wandb

    assert wandb.run is None
    (run,) = runs(job.folder)
    found = inspect(run)
    assert (found["job_type"], found["group"], found["exit_code"]) == ("stage1", "run", 0)
    assert json.dumps(found["config"]).count("0.1")
    assert {key.partition(".")[0] for row in found["history"] for key in row} >= {
        "validation/psnr",
        "samples",
        "codebook",
        STEP,
    }
    assert found["metrics"]["validation/psnr"]["summary"] == {"max": True}
    assert found["metrics"]["validation/mse"]["summary"] == {"min": True}
    assert found["metrics"]["validation/usage_*"]["summary"] == {"max": True}
    assert found["summary"]["validation/psnr"] == {"max": 20.5}
    assert found["summary"]["validation/mse"] == {"min": 0.5}
    assert found["summary"]["stage1.psnr"] == 19.5
    assert found["artifacts"] == []  # offline the files carry the fingerprints
    assert list(run.glob("files/media/images/*.png"))
    (kept,) = json.loads((job.folder / "logs" / "wandb_ids.json").read_text())["ids"].values()
    assert kept in run.name  # with a number behind where two began in one second
    with pytest.raises(RuntimeError, match="broken"), Wandb().track(job) as loggers:
        raise RuntimeError(f"broken {loggers[1].version}")
    assert kept in runs(job.folder)[1].name  # with a number behind where two began in one second
    assert inspect(runs(job.folder)[1])["exit_code"] == 1
    assert wandb.run is None


@pytest.mark.slow
def test_offline_nothing_is_sent_also_not_by_wandb_about_itself(tmp_path):
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def take():
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    connection, _ = proxy.accept()
                    calls.append(connection.recv(200))
                    connection.close()

        threading.Thread(target=take, daemon=True).start()
        code = (
            "from pathlib import Path\n"
            "from pipelines.tracking.base import Job\n"
            "from pipelines.tracking.wandb import Wandb\n"
            "with Wandb().track(Job(Path('run'), 'stage1', 'g', 'g', {})) as loggers:\n"
            "    assert loggers[1].experiment.offline and not loggers[1].experiment.settings.x_disable_stats\n"
            "    loggers[1].log_metrics({'loss': 0.5}, 1)\n"
        )
        way_out = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        kept = {name: value for name, value in kept.items() if not name.startswith("WANDB")}
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), way_out)
        environment = {**kept, **proxies, "WANDB_API_KEY": "k" * 40, "HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert len(runs(tmp_path / "run")) == 1
    assert calls == []


def test_wandb_can_be_switched_off(job):
    with Wandb(mode="disabled").track(job) as loggers:
        assert len(loggers) == 1
    assert not (job.folder / "logs").exists()


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_wandb_that_does_not_start_costs_no_metrics(job, monkeypatch, capfd, mode):
    import wandb

    def broken(**settings):
        raise OSError("No space left on device")

    monkeypatch.setattr(wandb, "init", broken)
    monkeypatch.setattr(wandb, "login", lambda prompt: True)
    with Wandb(mode=mode).track(job) as loggers:
        for logger in loggers:
            logger.log_metrics({"loss": 0.5}, 1)
    assert read_metrics(job.folder) == {"stage1": {"loss": {1: 0.5}}}
    said = capfd.readouterr().err
    assert f"warning: wandb does not work {mode} (No space left on device)" in said
    assert said.count("warning") == 1


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_a_wandb_that_is_not_installed_costs_no_metrics(job, monkeypatch, capfd, mode):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with Wandb(mode=mode).track(job) as loggers:
        for logger in loggers:
            logger.log_metrics({"loss": 0.5}, 1)
    assert read_metrics(job.folder) == {"stage1": {"loss": {1: 0.5}}}
    assert capfd.readouterr().err.count("warning: wandb does not work") == 1


@pytest.mark.slow
def test_online_without_a_key_goes_on_offline_and_asks_nothing(job, monkeypatch, capfd, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Wandb(mode="online").track(job) as loggers:
        for logger in loggers:
            logger.log_metrics({"loss": 0.5}, 1)
    assert read_metrics(job.folder) == {"stage1": {"loss": {1: 0.5}}}
    # Why is wandb's word: it may know a key from earlier in this process, and no server.
    assert capfd.readouterr().err.count("warning: wandb does not work online (") == 1
    assert len(runs(job.folder)) == 1


@pytest.mark.slow
def test_a_folder_that_wandb_cannot_write_costs_no_metrics(job, monkeypatch, capfd):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (job.folder / "logs").mkdir(parents=True)
    (job.folder / "logs" / "wandb").write_text("a file where a folder belongs")
    with Wandb().track(job) as loggers:
        for logger in loggers:
            logger.log_metrics({"loss": 0.5}, 1)
    assert read_metrics(job.folder) == {"stage1": {"loss": {1: 0.5}}}
    assert capfd.readouterr().err.count("warning: wandb") == 1


class Run:
    """A run of wandb that notes what it gets, and fails when told to."""

    id = "abc"
    offline = False

    def __init__(self):
        self.logged, self.used, self.made, self.summary, self.broken = [], [], [], {}, False

    def define_metric(self, *names, **how):
        pass

    def log(self, metrics):
        if self.broken:
            raise OSError("No space left on device")
        self.logged.append(metrics)

    def use_artifact(self, name):
        self.used.append(name)

    def log_artifact(self, artifact):
        self.made.append(artifact)


def test_a_wandb_that_fails_is_said_once_and_left_alone(capfd):
    run = Run()
    logger = WandbRunLogger(run, "stage2")
    logger.log_metrics({"loss": 1.0}, 3)
    run.broken = True
    logger.log_metrics({"loss": 0.9}, 4)
    run.broken = False
    logger.log_metrics({"loss": 0.8}, 5)
    assert run.logged == [{"loss": 1.0, STEP: 3}]
    said = capfd.readouterr().err
    assert said.count("warning: WandbRunLogger stopped (No space left on device)") == 1


def test_lineage_goes_online_with_the_files_fingerprints(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1")
    run = Run()
    made, parent = Artifact("prior", "cd" * 32, (tmp_path / "config.yaml",)), Artifact("codes", "ab" * 32)
    WandbRunLogger(run, "stage2").log_lineage(made, [parent])
    assert run.used == ["codes-abababababab:latest"]
    (artifact,) = run.made
    assert (artifact.name, artifact.type) == ("prior-cdcdcdcdcdcd", "prior")
    assert artifact.metadata == {"fingerprint": "cd" * 32, "parents": ["ab" * 32]}
    assert list(artifact.manifest.entries) == ["config.yaml"]
    WandbRunLogger(run, "stage2", log_model=False).log_lineage(made, [parent])
    assert list(run.made[1].manifest.entries) == []


class Online:
    """A real run, offline, that is taken for one online: what it makes is written where ``wandb sync`` reads it."""

    offline = False

    def __init__(self, run):
        self.run, self.used = run, []

    def __getattr__(self, name):
        return getattr(self.run, name)

    def use_artifact(self, name):  # asks a server
        self.used.append(name)


@pytest.mark.slow
def test_wandbs_own_client_takes_the_lineage(job, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tmp_path / "config.yaml").write_text("a: 1")
    kinds = ["tokenizer", "codes", "prior", "samples"]
    chain = [Artifact(kind, f"{number}a" * 32, (tmp_path / "config.yaml",)) for number, kind in enumerate(kinds)]
    with Wandb().track(job) as loggers:
        logger = loggers[1]
        logger._experiment = Online(logger.experiment)
        for parent, made in zip([None, *chain], chain, strict=False):
            logger.log_lineage(made, [parent] if parent else [])
        assert not logger.failed
    assert logger.experiment.used == [f"{made.kind}-{made.fingerprint[:12]}:latest" for made in chain[:-1]]
    (run,) = runs(job.folder)
    found = {artifact["name"]: artifact for artifact in inspect(run)["artifacts"]}
    assert list(found) == [f"{made.kind}-{made.fingerprint[:12]}" for made in chain]
    for made, parent in zip(chain, [None, *chain], strict=False):
        artifact = found[f"{made.kind}-{made.fingerprint[:12]}"]
        assert artifact["type"] == made.kind
        parents = [parent.fingerprint] if parent else []
        assert json.loads(artifact["metadata"]) == {"fingerprint": made.fingerprint, "parents": parents}
        assert [entry["path"] for entry in artifact["manifest"]["contents"]] == ["config.yaml"]


def test_histograms_of_large_codebooks_keep_their_sum():
    run = Run()
    counts = np.arange(1000)
    WandbRunLogger(run, "stage1").log_histogram("codebook", counts, 0)
    histogram = run.logged[0]["codebook"]
    assert len(histogram.histogram) == 512
    assert sum(histogram.histogram) == counts.sum()
