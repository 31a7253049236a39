"""What every command shares: its start, its errors, ``--info``."""

import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
"""Where the packages of this project are imported from."""


def forget_current_folder() -> None:
    """Leave the current folder out of the places where Python looks for packages, if ``python -m`` put it there.

    A user's ``torch.py`` or ``hydra/`` in that folder would be imported in place of the library, which console scripts
    do not do. Packages of ``trust`` are found there all the same.
    """
    started = sys.orig_argv[1:]
    module = started[started.index("-m") + 1 :][:1] if "-m" in started else []
    if module and module[0].startswith("pipelines.") and sys.path[0] == os.getcwd() != ROOT:
        del sys.path[0]


forget_current_folder()
