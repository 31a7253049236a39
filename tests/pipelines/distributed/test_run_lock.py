import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli.process import run_task
from pipelines.distributed import collectives
from pipelines.distributed.run_lock import RUN_LOCK, sole_user
from tests.support.distributed import on_two_ranks
from tests.support.tiny import compose

HOLD = """
import sys
from pathlib import Path
from pipelines.distributed.run_lock import sole_user

with sole_user(Path(sys.argv[1]), "run"):
    (Path(sys.argv[1]) / "product").touch()
    print("held", flush=True)
    sys.stdin.readline()
"""


def other_command(folder):
    """Another process that holds a folder."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_command_is_told_who_holds_the_folder(tmp_path):
    folder = tmp_path / "run"
    other = other_command(folder)
    expected = rf"^{re.escape(str(folder))} is in use by run \(process {other.pid} on {socket.gethostname()}, since "
    refused = pytest.raises(ValueError, match=expected + r".*\): wait until it ends, or give another output=$")
    with refused, sole_user(folder, "run"):
        pytest.fail("entered")
    other.communicate("go on\n")
    with sole_user(folder, "run"):
        pass
    assert [path.name for path in folder.iterdir()] == ["product"]


def test_a_killed_command_blocks_nobody(tmp_path):
    other = other_command(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
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
    other = other_command(tmp_path / "other")
    first, second = on_two_ranks(_use, tmp_path / "other")
    assert f"process {other.pid}" in first
    assert second == f"{tmp_path / 'other'} is in use by another command"
    other.communicate("go on\n")


def _write(settings):
    (Path(settings["output"]) / "product").touch()


def test_a_command_holds_the_folder_that_it_writes_to(tmp_path):
    settings = {"hardware": compose()["hardware"], "output": str(tmp_path / "run"), "debug": False}
    run_task(f"{__name__}:_write", settings)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["product"]
    other = other_command(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run is in use by run \(process"):
        run_task(f"{__name__}:_write", settings)
    other.communicate("go on\n")
    run_task(f"{__name__}:_write", settings)


def test_default_folders_differ_within_a_second():
    folders = {compose()["output"] for _ in range(3)}
    assert len(folders) == 3
