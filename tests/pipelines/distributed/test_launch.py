import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessRaisedException

from pipelines.distributed import collectives, launch
from pipelines.distributed.environment import started_elsewhere
from pipelines.distributed.threads import threads_each
from tests.support.distributed import forking, on_two_new_ranks, on_two_ranks


def _sum(rank, value):
    total = torch.tensor([float(value * (rank + 1))])
    dist.all_reduce(total)
    return {"total": total, "ranks": collectives.ranks(), "argv_free": os.environ["WORLD_SIZE"]}


def test_spawned_processes_form_one_group_and_leak_nothing():
    before = dict(os.environ)
    first, second = on_two_new_ranks(_sum, 5)
    assert first["total"] == second["total"] == 15
    assert first["ranks"] == 2
    assert dict(os.environ) == before
    assert not dist.is_initialized()
    assert (collectives.rank(), collectives.ranks()) == (0, 1)


def _threads(rank):
    return {"threads": torch.get_num_threads(), "asked": threads_each(2)}


@pytest.mark.parametrize("asked", [None, "3"])
def test_processes_share_the_processors_unless_threads_are_asked_for(monkeypatch, asked):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    expected = int(asked or max(1, len(os.sched_getaffinity(0)) // 2))
    with forking(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "threads_each", threads_each)
        assert [found["threads"] for found in on_two_new_ranks(_threads)] == [expected, expected]


def test_threads_of_each_process(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("pipelines.distributed.threads.processors", lambda: 8)
    assert [threads_each(processes) for processes in (1, 2, 3, 8, 9)] == [8, 4, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "5,1")
    assert threads_each(2) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert threads_each(2) == 4


def _fail_on_the_second(rank):
    if rank == 1:
        raise RuntimeError("broken")


def test_a_rank_that_fails_ends_the_command():
    with pytest.raises(ProcessRaisedException):
        on_two_ranks(_fail_on_the_second)


THREADS_OF_A_GROUP = """
import os
from pathlib import Path

import torch
import torch.distributed as dist

from pipelines.distributed.launch import process_group


def threads():
    return sum("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))


with process_group():
    dist.all_reduce(torch.ones(2))
    # What may hold a group beyond its end: default arguments of functions that are first imported inside, and cycles.
    import torch._dynamo, torch.distributed.fsdp.sharded_grad_scaler, torch.distributed.optim
    loop = [dist.group.WORLD]; loop.append(loop); del loop
    print("during", threads() > 0)
print("after", threads())
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list its threads in /proc")
def test_a_group_ends_with_its_threads_whatever_held_it():
    """Else one that is late lets go of a tensor when the interpreter has ended, which aborts the process."""
    place = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    options = {"env": {**os.environ, **place, "CUDA_VISIBLE_DEVICES": ""}, "cwd": Path(__file__).parents[3]}
    done = subprocess.run(
        [sys.executable, "-c", THREADS_OF_A_GROUP], capture_output=True, text=True, check=True, **options
    )
    assert done.stdout.split("\n")[:2] == ["during True", "after 0"]


def _find_wrong(rank, wrong):
    collectives.PATIENCE = 0.5
    return collectives.say_once("too big") if rank in wrong else None


@pytest.mark.parametrize(
    ("wrong", "said", "line"),
    [
        ((0, 1), [True, False], "error: too big"),
        ((0,), [True, None], "error: too big"),
        ((1,), [None, True], f"error: process 1 on {socket.gethostname()}: too big"),
    ],
)
def test_what_is_wrong_is_said_once_whichever_processes_found_it(wrong, said, line, capfd):
    assert on_two_ranks(_find_wrong, wrong) == said
    assert [line for line in capfd.readouterr().err.splitlines() if "too big" in line] == [line]


def test_the_port_where_they_meet_is_held_before_they_start(monkeypatch):
    def spawn(task, args, nprocs, join):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", args[0].port))
        raise RuntimeError("seen")

    monkeypatch.setattr(launch, "spawn", spawn)
    with pytest.raises(RuntimeError, match="seen"):
        launch.run_on_all(_append, processes=2)


def _append(values, value):
    values.append(value)


def test_one_process_stays_in_this_one():
    seen = []
    launch.run_on_all(_append, seen, 3, processes=1)
    assert seen == [3]


def test_slurm_is_said_in_torchruns_words(monkeypatch):
    environment = {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "77"}
    environment["SLURM_LAUNCH_NODE_IPADDR"] = "10.0.0.1"
    launch._from_slurm(environment)
    assert {name: environment[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")} == {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "15077",
    }
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert started_elsewhere()
