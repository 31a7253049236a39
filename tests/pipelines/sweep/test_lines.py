"""What a sweep says of its jobs while they run."""

import os

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from pipelines.cli.console import CommandConsole
from pipelines.sweep.launch import VARIABLE, Launch
from pipelines.sweep.lines import first_line, last_line, time_left
from pipelines.sweep.records import JobRecord

WORDS = ["seed=1,2", "n=3", "stage2.label_dropout=range(0,3)", "stage1/quantizer=ema,fsq"]


@pytest.fixture
def launch(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    config = OmegaConf.create({"hydra": {"sweeper": {}}})
    found = Launch.of(config, OverridesParser.create().parse_overrides(WORDS))
    found.begin()
    yield found
    Launch.end()
    assert VARIABLE not in os.environ


def test_jobs_of_a_grid_and_of_a_search_are_counted(launch):
    assert launch.jobs == 2 * 3 * 2
    assert launch.keys == ("seed", "stage2.label_dropout", "stage1/quantizer")
    assert Launch.current() == launch  # as a job in another process reads it
    search = OmegaConf.create({"hydra": {"sweeper": {"n_trials": 20}}})
    overrides = OverridesParser.create().parse_overrides(["stage2.model.dropout=interval(0,1)"])
    assert Launch.of(search, overrides).jobs == 20


def test_a_job_is_told_by_its_number_and_what_is_swept_over(launch, tmp_path):
    sweep = {"number": 7, "overrides": ["seed=2", "n=3", "+stage2.label_dropout=1", "stage1/quantizer=fsq"]}
    assert first_line(sweep) == "job 7: seed=2 +stage2.label_dropout=1 stage1/quantizer=fsq"
    JobRecord(7, status="finished", passes={launch.name: [0.5]}).write(tmp_path)
    said = last_line({**sweep, "folder": tmp_path}, "finished", 2.7845, 65.0)
    assert said == "job 7: finished, 2.7845, 1:05, 11 jobs left"


def test_the_time_left_is_that_of_jobs_that_had_something_to_do():
    launch = Launch("mine", 6, (), 100.0)
    records = [
        JobRecord(0, status="finished", passes={"mine": [0.1], "another": [30.0]}),  # was there
        JobRecord(1, status="finished", passes={"mine": [20.0], "another": [0.1]}),  # the other one came later
        JobRecord(2, status="failed", passes={"mine": [30.0]}),
        JobRecord(3),
        JobRecord(4, status="finished", passes={"another": [9.0]}),
    ]
    assert time_left(records, launch, 150.0) == "3 jobs left, about 1:15"  # 50 s for two
    assert time_left(records[:1], launch, 150.0) == "5 jobs left"
    assert time_left([JobRecord(0, passes={"mine": [2.0, 0.1]})], launch, 110.0) == "4 jobs left, about 0:40"  # twice
    assert time_left(records, Launch(), 150.0) == ""


def test_of_a_job_only_warnings_and_each_report_once_are_printed(capsys):
    console = CommandConsole()
    console.job = "job 3: "
    console.print("[green]✓[/] tokenizer: 20 dB")
    console.print("[yellow]![/] it collapsed")
    for _ in range(2):
        console.print_once(["images: 5", "  train 4"])
    console.print_once(["images: 6"])
    assert capsys.readouterr().out.splitlines() == ["job 3: ! it collapsed", "images: 5", "  train 4", "images: 6"]
    console.shared = True  # jobs in several processes
    console.print_once(["images: 7", "  train 5"])
    assert capsys.readouterr().out.splitlines() == ["job 3: images: 7", "job 3:   train 5"]
    console.job = ""
    console.print("all")
    console.print_once(["images: 6"])
    assert capsys.readouterr().out.splitlines() == ["all", "images: 6"]
