"""Signals that ask a command to stop."""

import signal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""SIGTERM of schedulers, SIGINT of Ctrl-C, SIGUSR1 of ``sbatch --signal=USR1``."""

STOPPED = frozenset(128 + number for number in SIGNALS)
"""Exit codes of processes that were asked to stop."""
