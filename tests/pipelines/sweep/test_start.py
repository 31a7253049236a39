"""What a sweep's command line is refused for, and how a search is prepared."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pipelines.cli.arguments import HYDRAS_FOLDERS, refuse_hydras_folders
from pipelines.sweep.start import SweepStart, check_keys, prepare_search


@pytest.mark.parametrize("key", HYDRAS_FOLDERS)
def test_hydra_is_not_to_choose_folders(key):
    with pytest.raises(ValueError, match=rf"{key}: .* give output=FOLDER"):
        refuse_hydras_folders(["-m", f"++{key}=x", "seed=1,2"])
    refuse_hydras_folders(["-m", "hydra.sweeper.n_trials=3", f"output={key}"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output=a,b"], "output: a sweep has one folder"),
        (["seed=1", "n=3", "seed=choice(1,2)"], "seed is given 2 times"),
        (["seed=1,2", "+seed=3,4"], "seed is given 2 times"),
    ],
)
def test_keys_that_a_sweep_cannot_have(words, message):
    with pytest.raises(ValueError, match=message):
        check_keys(OverridesParser.create().parse_overrides(words))
    check_keys(OverridesParser.create().parse_overrides(["seed=1,2", "n=3", "n=4", "output=a"]))  # the last one counts


def search(objective, *overrides, **sweeper):
    config = OmegaConf.create(
        {"objective": objective, "hydra": {"sweeper": sweeper, "overrides": {"hydra": list(overrides)}}}
    )
    OmegaConf.set_readonly(config, True)
    prepare_search(config)
    return config.hydra.sweeper


@pytest.mark.parametrize(
    ("objective", "direction", "right"),
    [
        (None, "maximize", "minimize"),
        ("stage1.psnr", "minimize", "maximize"),
        (["stage2.nats", "stage1.psnr"], ["minimize", "minimize"], r"\[minimize,maximize\]"),
        (["stage2.nats", "stage1.psnr"], "minimize", r"\[minimize,maximize\]"),
    ],
)
def test_a_direction_that_is_not_the_objectives(objective, direction, right):
    with pytest.raises(ValueError, match=rf"give hydra.sweeper.direction={right}$"):
        search(objective, direction=direction)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_metric_that_there_is_none_of_ends_a_search_before_it_begins(direction):
    config = OmegaConf.create(
        {"objective": "stage2.nat", "hydra": {"sweeper": {"direction": direction}, "overrides": {"task": []}}}
    )
    with pytest.raises(SystemExit, match=r"^error: objective: no metric 'stage2.nat'; did you mean stage2.nats\?$"):
        SweepStart().on_multirun_start(config)  # Hydra makes warnings of other exceptions


def test_a_search_goes_on_past_jobs_that_fail_unless_it_is_told_otherwise():
    assert search("stage1.psnr", direction="maximize", max_failure_rate=0.0).max_failure_rate == 1
    told = search(None, "hydra.sweeper.max_failure_rate=0.5", direction="minimize", max_failure_rate=0.5)
    assert told.max_failure_rate == 0.5
    assert "max_failure_rate" not in search(None)  # of a sweeper without a choice


def test_a_stored_study_goes_on_to_its_number_of_trials(tmp_path):
    optuna = pytest.importorskip("optuna")
    stored = {"study_name": "rates", "storage": f"sqlite:///{tmp_path / 'rates.db'}", "direction": "minimize"}
    assert search(None, n_trials=5, **stored).n_trials == 5
    study = optuna.create_study(study_name="rates", storage=stored["storage"])
    for value in (0.1, 0.2):
        study.tell(study.ask(), value)
    study.ask()  # of a process that was killed
    assert search(None, n_trials=5, **stored).n_trials == 3
    assert search(None, n_trials=1, **stored).n_trials == 0
