"""What every command shares: its start, its errors, ``--info``."""

import os
import sys
from types import TracebackType

# Nothing else is imported: until the hook below is there, Ctrl-C ends in a traceback.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
"""Where the packages of this project are imported from."""


def started_module() -> str:
    """The module that ``python -m`` started; empty where a file did."""
    words = sys.orig_argv[1:]
    return "".join(words[words.index("-m") + 1 :][:1]) if "-m" in words else ""


def forget_current_folder() -> None:
    """Leave the current folder out of the places where Python looks for packages, if ``python -m`` put it there.

    A user's ``torch.py`` or ``hydra/`` in that folder would be imported in place of the library, which console scripts
    do not do. Packages of ``trust`` are found there all the same.
    """
    if started_module().startswith("pipelines.") and sys.path[0] == os.getcwd() != ROOT:
        del sys.path[0]


def say_interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line that Ctrl-C ended a command while it was being imported."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped by SIGINT before anything began: the same command starts it", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


forget_current_folder()
if started_module().startswith("pipelines.") or os.path.basename(sys.argv[0]).startswith("vqvae-"):
    sys.excepthook = say_interrupted
