"""Each job of a grid is composed once, for the check of all jobs and for its run."""

from types import SimpleNamespace

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf

from pipelines.sweep.composition import composed_once
from pipelines.sweep.start import runs_a_grid_here


def test_what_the_check_composed_is_what_the_job_gets(monkeypatch):
    composed = []

    def compose(self, master_config, sweep_overrides):
        composed.append(sweep_overrides)
        return SimpleNamespace(overrides=sweep_overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", compose)
    jobs = [["seed=1"], ["seed=2"]]
    with composed_once():
        load = ConfigLoaderImpl.load_sweep_config
        checked, run = ([load(None, None, job) for job in jobs] for _ in range(2))
        assert all(one is other for one, other in zip(checked, run, strict=True))
        assert composed == jobs
        assert load(None, None, jobs[0]) is not checked[0]  # a job that comes again gets one of its own
    assert ConfigLoaderImpl.load_sweep_config is compose


def test_only_a_grid_that_runs_here_is():
    here = {"sweeper": {"_target_": "x.BasicSweeper"}, "launcher": {"_target_": "x.BasicLauncher"}}
    assert runs_a_grid_here(OmegaConf.create(here))
    assert not runs_a_grid_here(OmegaConf.create(here | {"sweeper": {"_target_": "x.OptunaSweeper"}}))
    assert not runs_a_grid_here(OmegaConf.create(here | {"launcher": {"_target_": "x.JoblibLauncher"}}))
