"""Threads of a sweep's jobs that run at the same time on this machine."""

from __future__ import annotations

import os

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from pipelines.cli.console import console
from pipelines.distributed.threads import threads_each
from pipelines.sweep.launch import combinations
from stage1_vqvae.processors import processors

VARIABLE = "OMP_NUM_THREADS"


def jobs_at_once(config: DictConfig) -> int:
    """Jobs that a sweep's launcher runs at the same time on this machine; 1 where another machine runs them.

    Args:
        config: Hydra's own part of the sweep's configuration, ``config.hydra``.
    """
    launcher = str(config.launcher.get("_target_", ""))
    if launcher.endswith("JoblibLauncher"):
        asked = int(config.launcher.get("n_jobs") or 1)
        workers = asked if asked > 0 else max(processors() + 1 + asked, 1)
    elif launcher.endswith("LocalLauncher"):  # submitit's, which starts all at once
        workers = _jobs(config)
    else:
        return 1
    return min(workers, _jobs(config))


def _jobs(config: DictConfig) -> int:
    """Jobs that the launcher is given at a time: those of a search, or all combinations of the command line."""
    search = config.sweeper.get("n_jobs")
    if search:
        return int(search)
    return combinations(OverridesParser.create().parse_overrides(list(config.overrides.task)))


def share_processors(config: DictConfig) -> dict[str, str]:
    """Share the processors among jobs that run at the same time, by the environment that they get; say so.

    Args:
        config: Hydra's own part of the sweep's configuration.

    Returns:
        What was set in this process's environment.
    """
    jobs = jobs_at_once(config)
    if jobs < 2:
        return {}
    threads = threads_each(jobs)
    console.print(f"{jobs} jobs at a time, {threads} {'thread' if threads == 1 else 'threads'} each")
    if VARIABLE in os.environ:
        return {}
    os.environ[VARIABLE] = str(threads)
    return {VARIABLE: str(threads)}
