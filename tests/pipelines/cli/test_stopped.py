"""Ctrl-C ends a command with one line, whatever it is doing, and the same command goes on."""

import importlib
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from pipelines.artifacts.sample_parts import Parts
from pipelines.tasks import evaluate
from pipelines.training.fit import StepSeed
from tests.support.tiny import TINY

IMPORTING = """
import os, runpy, signal, sys
sys.argv = ["vqvae-sample", "model=run"]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
def stop(event, arguments):
    if event == "import" and arguments[0] == "hydra":
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(stop)
runpy.run_module("pipelines.sample", run_name="__main__")
"""


def test_while_it_is_imported():
    ended = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True)
    assert ended.returncode in (-signal.SIGINT, 130)
    assert ended.stdout == ""
    assert ended.stderr == "stopped by SIGINT before anything began: the same command starts it\n"


@pytest.fixture
def stopped(monkeypatch, capfd, tmp_path):
    """Runs a command until a function is called for the second time, then presses Ctrl-C; gives what it says."""

    def run(owner, name, command, *words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [command, *words])
        main = importlib.import_module(f"pipelines.{command}").main
        whole, calls = getattr(owner, name), []

        def press(*arguments, **more):
            calls.append(name)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return whole(*arguments, **more)

        with monkeypatch.context() as context:
            context.setattr(owner, name, press)
            with pytest.raises(SystemExit) as ended:
                main()
        assert ended.value.code == 130
        said = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
        main()  # the same command
        return said

    return run


GOES_ON = ["stopped by SIGINT: the same command goes on with what is not finished"]


def test_while_it_samples(stopped, tiny_run, tmp_path):
    said = stopped(Parts, "write", "sample", f"model={tiny_run}", "n=40", "batch_size=1", "output=made")
    assert said == GOES_ON
    with np.load(tmp_path / "made" / "images.npz") as made:
        assert len(made["images"]) == 40


def test_while_it_evaluates(stopped, tiny_run, tmp_path):
    words = [f"model={tiny_run}", "n=4", "network.steps=1", "output=made"]
    assert stopped(evaluate, "once", "evaluate", *words) == GOES_ON
    assert (tmp_path / "made" / "evaluation.json").exists()


def test_in_the_first_batches_of_a_training(stopped, tmp_path):
    words = [*TINY, "stage1.trainer.max_steps=3", "output=made"]
    said = stopped(StepSeed, "on_train_batch_start", "train_stage1", *words)
    assert said == ["stopped by SIGINT after step 1: the same command goes on from there"]
    assert (tmp_path / "made" / "tokenizer" / "config.yaml").exists()
