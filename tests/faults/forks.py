"""Processes to be killed. They are forked, so that each starts in no time; the parent itself never trains."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

FAILED = 99


def fork(task: Callable[..., Any], *arguments: Any) -> int:
    """Start ``task(*arguments)`` in a process of its own; returns its id. What it prints is dropped."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = FAILED
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        if "FAULTS_DEBUG" not in os.environ:
            os.dup2(silence, 2)
        task(*arguments)
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except (ValueError, OSError):  # what commands end with in one line
        traceback.print_exc()
        code = 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int, seconds: float = 120) -> int:
    """The exit code of a process, negative for the signal that ended it.

    Raises:
        TimeoutError: If it does not end; it is killed.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"no end within {seconds} s")


def finish(task: Callable[..., Any], *arguments: Any) -> None:
    """Run a task in a process of its own to its good end."""
    code = wait(fork(task, *arguments))
    if code:
        raise RuntimeError(f"{task.__name__} ended with {code}")


def interrupt(number: int, latest: float, dice: random.Random, task: Callable[..., Any], *arguments: Any) -> int:
    """Send a process a signal at a random moment; returns its exit code, 0 where it was done before."""
    child = fork(task, *arguments)
    time.sleep(dice.uniform(0, latest))
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    return wait(child)
