from hydra._internal.utils import get_args_parser

from pipelines.cli.arguments import FLAGS, without_hyphens


def test_overrides_may_have_hyphens():
    given = [
        "--experiment=mnist5k",
        "--stage2.model.width=64",
        "seed=1",
        "--+n=2",
        "--output=a=b",
        "--data.files=--x=1",
    ]
    expected = ["experiment=mnist5k", "stage2.model.width=64", "seed=1", "+n=2", "output=a=b", "data.files=--x=1"]
    assert without_hyphens(given) == expected


def test_hydras_flags_stay():
    given = ["-m", "--multirun", "--cfg", "job", "--cfg=job", "--info", "stage1", "--help", "--config-dir=x", "-cd=x"]
    assert without_hyphens(given) == given


def test_the_flags_are_those_of_the_installed_hydra():
    takes_a_value = {
        name.removeprefix("--")
        for action in get_args_parser()._actions
        for name in action.option_strings
        if action.nargs != 0 and name.startswith("--")
    }
    assert set(FLAGS) == takes_a_value
