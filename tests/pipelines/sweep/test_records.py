import json
import subprocess
import sys

import pytest

from pipelines.sweep.launch import VARIABLE
from pipelines.sweep.records import JobRecord, RunsElsewhere, note_error, read_record, read_records, recorded

HOLD = """
import sys, time
from pathlib import Path
from pipelines.sweep.records import recorded
with recorded({"folder": sys.argv[1], "number": 3, "overrides": [], "waits": False}):
    print("holds", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def job(tmp_path):
    JobRecord(3, ["seed=1"], settings={"seed": 1}, digest="d").write(tmp_path)
    return {"folder": str(tmp_path), "number": 3, "overrides": ["seed=1"], "waits": False}


def test_records_say_how_a_job_fares(job, tmp_path):
    with recorded(job):
        assert read_records(tmp_path)[0].status == "running"
    assert read_records(tmp_path)[0].status == "finished"
    with pytest.raises(KeyboardInterrupt), recorded(job):
        raise KeyboardInterrupt
    assert read_records(tmp_path)[0].status == "stopped"
    with pytest.raises(RuntimeError), recorded(job):
        raise RuntimeError(note_error(job, "what the process said"))
    assert read_records(tmp_path)[0].error == "what the process said"
    JobRecord(10).write(tmp_path)
    assert [record.number for record in read_records(tmp_path)] == [3, 10]


def test_what_tells_a_job_from_others_stays_through_all_of_it(job, tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="no luck"), recorded(job):
            raise ValueError("no luck")
    with recorded(job):
        pass
    record = read_record(tmp_path, 3)
    assert (record.overrides, record.settings, record.digest) == (["seed=1"], {"seed": 1}, "d")
    assert record.error is None


def test_an_error_without_words_is_told_by_its_cause(job, tmp_path):
    with pytest.raises(RuntimeError), recorded(job):
        raise RuntimeError from OSError("process 1 was ended by SIGKILL")
    assert read_record(tmp_path, 3).error == "process 1 was ended by SIGKILL"
    with pytest.raises(RuntimeError), recorded(job):
        raise RuntimeError
    assert read_record(tmp_path, 3).error == "RuntimeError"


def test_time_adds_up_over_the_starts_of_a_job_until_it_is_finished(job, tmp_path, monkeypatch):
    clock = iter([0.0, 5.0, 100.0, 102.0, 200.0, 200.5])
    monkeypatch.setattr("pipelines.sweep.records.time.monotonic", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt), recorded(job):
        raise KeyboardInterrupt
    assert read_record(tmp_path, 3).seconds == 5
    with recorded(job):
        pass
    assert read_record(tmp_path, 3).seconds == 7
    with recorded(job):  # nothing was left to do, and other launches see a finished job meanwhile
        assert read_record(tmp_path, 3).status == "finished"
    assert read_record(tmp_path, 3).seconds == 7


def test_a_job_is_run_by_one_of_several_launches_and_a_killed_one_blocks_nobody(job, tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline().strip() == "holds"
    with pytest.raises(RunsElsewhere, match=rf"job 3: another launch .* \(process {other.pid} on"), recorded(job):
        pytest.fail("it ran twice")
    assert read_record(tmp_path, 3).status == "running"
    other.kill()
    other.wait()
    with recorded(job):
        pass
    assert read_record(tmp_path, 3).status == "finished"


def test_a_sweeper_that_needs_the_outcome_waits_for_it(job, tmp_path, monkeypatch):
    other = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    other.stdout.readline()
    monkeypatch.setattr("pipelines.sweep.records.time.sleep", lambda seconds: (other.kill(), other.wait()))
    with recorded({**job, "waits": True}):
        assert other.poll() is not None


def test_a_record_tells_launches_apart_and_may_be_of_a_version_that_wrote_more(job, tmp_path, monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 21.0])
    monkeypatch.setattr("pipelines.sweep.records.time.monotonic", lambda: next(clock))
    for name in ("one", "other", "one"):
        monkeypatch.setenv(VARIABLE, json.dumps({"name": name, "jobs": 1, "keys": [], "start": 0.0}))
        with recorded(job):
            pass
    assert read_record(tmp_path, 3).passes == {"one": [5.0, 1.0], "other": [2.0]}
    path = tmp_path / "jobs" / "3.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "worked": 3.0}))
    assert read_record(tmp_path, 3).digest == "d"


def test_outside_of_a_sweep_nothing_is_recorded(tmp_path):
    with recorded(None):
        note_error(None, "no matter")
    assert list(tmp_path.iterdir()) == []
