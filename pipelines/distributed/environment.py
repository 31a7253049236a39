"""What the environment says of a command's processes; asked before torch is imported."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PATIENCE = 5.0
"""Seconds that another process waits for the first one to say what is wrong, before it says so itself."""


def started_elsewhere() -> bool:
    """Whether torchrun or srun started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1


def started_processes() -> int:
    """How many processes torchrun or SLURM started; 1 where neither did."""
    return int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1) if started_elsewhere() else 1


def first_process() -> bool:
    """Whether this is the first of the processes that torchrun or SLURM started, or the only one."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def temporary_folder() -> Path:
    """Folder for temporary files and locks of this user on this machine; other users have their own."""
    return Path(tempfile.gettempdir()) / f"vqvae-prior-{os.getuid()}"
