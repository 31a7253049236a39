import errno
import fcntl
import multiprocessing
import os
import re
import socket
from pathlib import Path

import pytest

from pipelines.cli.process import run_task
from pipelines.distributed import collectives
from pipelines.distributed.run_lock import RUN_LOCK, sole_user
from tests.support.distributed import on_two_ranks
from tests.support.tiny import compose


class OtherCommand:
    """Another process that holds a folder until it is told to end."""

    def __init__(self, folder):
        context = multiprocessing.get_context("fork")
        self.here, there = context.Pipe()
        self.process = context.Process(target=self.hold, args=(folder, there))
        self.process.start()
        assert self.here.recv() == "held"
        self.pid = self.process.pid

    @staticmethod
    def hold(folder, pipe):
        with sole_user(folder, "run"):
            (folder / "product").touch()
            pipe.send("held")
            pipe.recv()

    def end(self):
        self.here.send("go on")
        self.process.join()

    def kill(self):
        self.process.kill()
        self.process.join()


def test_a_second_command_is_told_who_holds_the_folder(tmp_path):
    folder = tmp_path / "run"
    other = OtherCommand(folder)
    expected = rf"^{re.escape(str(folder))} is in use by run \(process {other.pid} on {socket.gethostname()}, since "
    refused = pytest.raises(ValueError, match=expected + r".*\): wait until it ends, or give another output=$")
    with refused, sole_user(folder, "run"):
        pytest.fail("entered")
    other.end()
    with sole_user(folder, "run"):
        pass
    assert [path.name for path in folder.iterdir()] == ["product"]


def test_a_killed_command_blocks_nobody(tmp_path):
    other = OtherCommand(tmp_path)
    other.kill()
    assert (tmp_path / RUN_LOCK).exists()
    with sole_user(tmp_path, "run"):
        assert f'"process": {os.getpid()}' in (tmp_path / RUN_LOCK).read_text()
    assert not (tmp_path / RUN_LOCK).exists()


def test_a_command_that_makes_nothing_leaves_no_folder(tmp_path):
    def mistake():
        with sole_user(tmp_path / "run", "run"):
            raise ValueError("mistake")

    with pytest.raises(ValueError, match="mistake"):
        mistake()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    refused = pytest.raises(OSError, match=r"file/run cannot be written \(.*\): give another output=")
    with refused, sole_user(tmp_path / "file" / "run", "run"):
        pytest.fail("entered")


def test_a_file_system_without_locks_has_none(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with sole_user(tmp_path, "run"):
        (tmp_path / "product").touch()
    assert (tmp_path / "product").exists()


def _use(rank, folder):
    try:
        with sole_user(folder, "run"):
            collectives.barrier()
            return "held"
    except ValueError as error:
        return str(error)


def test_processes_of_one_command_hold_a_folder_together(tmp_path):
    assert on_two_ranks(_use, tmp_path / "run") == ["held", "held"]
    other = OtherCommand(tmp_path / "other")
    first, second = on_two_ranks(_use, tmp_path / "other")
    assert f"process {other.pid}" in first
    assert second == f"{tmp_path / 'other'} is in use by another command"
    other.end()


def _write(settings):
    (Path(settings["output"]) / "product").touch()


def test_a_command_holds_the_folder_that_it_writes_to(tmp_path):
    settings = {"hardware": compose()["hardware"], "output": str(tmp_path / "run"), "debug": False}
    run_task(f"{__name__}:_write", settings)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["product"]
    other = OtherCommand(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run is in use by run \(process"):
        run_task(f"{__name__}:_write", settings)
    other.end()
    run_task(f"{__name__}:_write", settings)


def test_default_folders_differ_within_a_second():
    folders = {compose()["output"] for _ in range(3)}
    assert len(folders) == 3
