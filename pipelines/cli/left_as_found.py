"""A process as it was: what training and its libraries change of it, and a notebook's other cells would feel."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

LOGGERS = ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric", "wandb", "hydra", "torch")
"""Loggers whose level the libraries change, or a command does."""

VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "HYDRA_FULL_ERROR", "WANDB_ERROR_REPORTING")
"""Variables of the environment that training sets."""


@contextmanager
def left_as_found() -> Iterator[None]:
    """Give back, at the end of the block, what training changes of the process.

    That is the random states of Python, numpy and torch, torch's number of threads, gradient mode and default type,
    signal handlers, the levels of loggers, warnings' filters and variables of the environment.
    """
    in_main = threading.current_thread() is threading.main_thread()  # only there may handlers be set
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    python, numpy = random.getstate(), np.random.get_state()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    variables = {name: os.environ.get(name) for name in VARIABLES}
    threads, grad, dtype = torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for number, handler in handlers.items():
            if in_main and handler is not None:
                signal.signal(number, handler)
