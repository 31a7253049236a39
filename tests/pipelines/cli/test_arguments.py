import re

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cli.arguments import (
    FLAGS,
    as_given,
    quoted,
    refuse_nameless_options,
    refuse_unknown_flags,
    without_hyphens,
)


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
@pytest.mark.parametrize("key", ["output", "init", "data.labels"])
def test_a_path_is_taken_as_it_is_given(key, value):
    (argument,) = as_given([f"{key}={value}"])
    assert OverridesParser.create().parse_override(argument).value() == value


@pytest.mark.parametrize("value", ["stage2.nats > 3", "stage1.usage<-5e-2 after 10"])
def test_a_condition_is_a_text(value):
    (argument,) = as_given([f"stop_if={value}"])
    assert OverridesParser.create().parse_override(argument).value() == value


@pytest.mark.parametrize("value", ["0,1", "choice(0,1)", "range(0,2)"])
def test_a_sweep_over_paths_takes_folders_that_are_called_by_numbers(value):
    (argument,) = as_given(["-m", f"model={value}"])[1:]
    assert list(OverridesParser.create().parse_override(argument).sweep_string_iterator()) == ["'0'", "'1'"]


def test_a_sweep_over_paths_takes_awkward_ones(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    (argument,) = as_given(["-m", "model=~/a(1),ü"])[1:]
    assert argument == "model='/home/me/a(1)','ü'"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--stage2.model.width", "3"], "--stage2.model.width"),
        (["-s=1"], "-s=1"),
        (["--cfg", "all_of_it"], "all_of_it"),
    ],
)
def test_a_flag_that_is_none_of_hydras_is_named_in_one_line(words, named):
    with pytest.raises(ValueError, match=rf"{named}.*; a setting is key=value"):
        refuse_unknown_flags(words)
    refuse_unknown_flags(["-m", "seed=1,2", "--cfg", "job", "--resolve"])


def test_a_group_needs_an_options_name():
    for word in ("data=null", "stage1/quantizer=3", "+experiment=null", "stage1/quantizer@stage1.levels.top=true"):
        with pytest.raises(ValueError, match=re.escape(word) + r": an option's name expected: \w+"):
            refuse_nameless_options([word])
    refuse_nameless_options(["data=mnist5k", "seed=null", "n=3", "~experiment", "data.files=null", "-m"])


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
