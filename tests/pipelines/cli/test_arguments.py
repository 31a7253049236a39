import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cli.arguments import FLAGS, as_given, quoted, without_hyphens


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


AWKWARD = [
    "2024",
    "1e3",
    "true",
    "a=b",
    "größe (1)#/x",
    "a{b}",
    "a&b",
    "x'y",
    "a\\",
    "a\\'b",
    "[",
    "a,b",
    "007",
    "a b",
    "a:b",
]


@pytest.mark.parametrize("value", AWKWARD)
@pytest.mark.parametrize("key", ["output", "model", "data.files"])
def test_a_path_is_taken_as_it_is_given(key, value):
    (argument,) = as_given([f"{key}={value}"])
    assert OverridesParser.create().parse_override(argument).value() == value


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1))
def test_quotes_hold_any_text(value):
    if "${" not in value:
        assert OverridesParser.create().parse_override(f"output={quoted(value)}").value() == value


def test_the_home_folder_is_found_quoted_or_not(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert as_given(["output=~/x", "model='~/x'"]) == ["output='/home/me/x'", "model='/home/me/x'"]


def test_what_is_no_plain_path_stays():
    words = ["output=null", "output=", "output=runs/${now:%Y}", "seed=3", "data.files=[a,b]", "model='a'", "--help"]
    assert as_given(words) == words
    assert as_given(["-m", "model=a,b"]) == ["-m", "model=a,b"]
