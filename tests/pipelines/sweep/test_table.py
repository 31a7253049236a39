import csv
import io
import json
import re

import pytest
from PIL import Image

from pipelines.cli.console import console
from pipelines.sweep.jobs import JobRecord, set_aside
from pipelines.sweep.page import write_sweep_page
from pipelines.sweep.results import write_results
from pipelines.sweep.table import Row, Sweep, as_csv, shortest, split, value_of


@pytest.fixture
def folder(tmp_path):
    """A sweep of two learning rates and a job that failed."""
    jobs = [
        JobRecord(0, ["seed=1", "stage2.optimization.learning_rate=0.1"], "finished", seconds=2.5),
        JobRecord(1, ["seed=1", "stage2.optimization.learning_rate=9"], "failed", "it <broke> [sadly]", 1.0),
        JobRecord(2, ["seed=1", "+stage2.optimization.learning_rate=0.01"], "finished", seconds=3.0),
    ]
    for job in jobs:
        job.write(tmp_path)
    for number, nats, psnr in ((0, 2.5, 20.0), (2, 2.25, 19.0)):
        for part, metrics in (("prior", {"nats": nats}), ("tokenizer", {"psnr": psnr})):
            (tmp_path / str(number) / part).mkdir(parents=True)
            (tmp_path / str(number) / part / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def numbers(sweep):
    return [row.record.number for row in sweep.rows]


def test_the_best_job_comes_first_and_those_without_the_metric_last(folder):
    sweep = Sweep.read(folder)
    assert numbers(sweep) == [2, 0, 1]
    assert sweep.order == "stage2.nats, lowest first"
    assert sweep.varied == ["stage2.optimization.learning_rate"]
    assert sweep.shown == ["stage2.nats", "stage1.psnr"]


def test_the_asked_objective_sorts_the_way_it_is_better(folder):
    for number in range(3):
        JobRecord(number, ["objective=stage1.psnr"], "finished").write(folder)
    sweep = Sweep.read(folder)
    assert numbers(sweep) == [0, 2, 1]
    assert sweep.order == "stage1.psnr, highest first"


def test_a_metric_that_is_no_number_comes_last(folder):
    (folder / "0" / "prior" / "metrics.json").write_text('{"nats": NaN}')
    JobRecord(3, ["seed=1"], "finished").write(folder)
    assert numbers(Sweep.read(folder)) == [2, 0, 1, 3]


def test_the_csv_holds_every_override_and_metric(folder):
    rows = list(csv.DictReader(io.StringIO(as_csv(Sweep.read(folder)))))
    assert [row["job"] for row in rows] == ["2", "0", "1"]
    assert [row["stage2.optimization.learning_rate"] for row in rows] == ["0.01", "0.1", "9"]
    assert [row["stage2.nats"] for row in rows] == ["2.25", "2.5", ""]
    assert [row["status"] for row in rows] == ["finished", "finished", "failed"]
    assert [row["error"] for row in rows] == ["", "", "it <broke> [sadly]"]


def test_the_page_is_self_contained_and_shows_samples(folder):
    (folder / "2" / "samples").mkdir()
    Image.new("L", (8, 8)).save(folder / "2" / "samples" / "grid.png")
    (folder / "2" / "report.html").write_text("")
    write_sweep_page(folder / "sweep.html", Sweep.read(folder))
    page = (folder / "sweep.html").read_text()
    assert page.count("<img") == 1
    assert 'href="2/report.html"' in page
    assert 'href="0/report.html"' not in page
    assert "it &lt;broke&gt;" in page
    assert "<broke>" not in page
    assert "2 of 3 jobs finished" in page
    (best,) = re.findall(r'<tr class="best">(.*?)</tr>', page, re.DOTALL)
    assert '<td class="number right">2.25</td>' in best
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_shares_are_in_percent():
    row = Row(JobRecord(0), {}, {"stage1.usage": 0.0125, "stage1.usage_1": 1.0, "stage2.nats": 0.0125})
    names = ("stage1.usage", "stage1.usage_1", "stage2.nats", "stage1.psnr")
    assert [value_of(row, name) for name in names] == ["1.25 %", "100 %", "0.0125", ""]


def test_the_table_is_written_and_says_what_did_not_finish(folder):
    with console.capture() as said:
        write_results(folder)
    assert "1 of 3 jobs did not finish" in said.get()
    assert "failed: it <broke> [sadly]" in said.get()
    assert (folder / "sweep.csv").read_text() == as_csv(Sweep.read(folder))
    assert (folder / "sweep.html").exists()


def test_records_of_an_earlier_sweep_are_named_and_not_listed(folder):
    set_aside(folder)
    JobRecord(0, ["seed=2"], "finished").write(folder)
    with console.capture() as said:
        write_results(folder)
    assert "of an earlier sweep into this folder, not listed: 1, 2" in said.get()
    assert numbers(Sweep.read(folder)) == [0]


def test_a_folder_without_jobs_gets_no_table(tmp_path):
    write_results(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_overrides_are_split_at_their_first_equals_sign():
    assert split(["+a.b=1", "c=[x=1]", "++d="]) == {"a.b": "1", "c": "[x=1]", "d": ""}


def test_keys_are_short_where_that_is_clear():
    assert shortest(["stage1/quantizer", "stage1.seed", "stage2.seed"]) == ["quantizer", "stage1.seed", "stage2.seed"]
