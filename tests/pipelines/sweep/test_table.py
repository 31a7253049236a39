import csv
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from scipy.stats import f_oneway, ttest_ind

from pipelines.cli.console import console
from pipelines.sweep.curves import learning_curves
from pipelines.sweep.groups import Group, Spread, apart, grouped
from pipelines.sweep.importance import eta_squared, importance
from pipelines.sweep.naming import shortest, spread_of, value_of
from pipelines.sweep.outcomes import Row, Sweep, split
from pipelines.sweep.page import write_sweep_page
from pipelines.sweep.records import JobRecord
from pipelines.sweep.results import write_results
from pipelines.sweep.table import as_csv, groups_as_csv

RATE = "stage2.optimization.learning_rate"


def finish(folder, number, nats, psnr=20.0, curve=()):
    """The models' metrics in the folder of a job, and what it logged."""
    job = folder / str(number)
    for part, metrics in (("prior", {"nats": nats}), ("tokenizer", {"psnr": psnr})):
        (job / part).mkdir(parents=True, exist_ok=True)
        (job / part / "metrics.json").write_text(json.dumps(metrics))
    (job / "logs").mkdir(exist_ok=True)
    lines = [f"stage2,{step},validation/nats,{value}" for step, value in curve]
    (job / "logs" / "metrics.csv").write_text("\n".join(["stage,step,metric,value", *lines]) + "\n")


@pytest.fixture
def folder(tmp_path):
    """A sweep of two learning rates and a job that failed."""
    jobs = [
        JobRecord(0, ["seed=1", f"{RATE}=0.1"], "finished", seconds=2.5),
        JobRecord(1, ["seed=1", f"{RATE}=9"], "failed", "it <broke> [sadly]", 1.0),
        JobRecord(2, ["seed=1", f"+{RATE}=0.01"], "finished", seconds=3.0),
    ]
    for job in jobs:
        job.write(tmp_path)
    finish(tmp_path, 0, 2.5, 20.0)
    finish(tmp_path, 2, 2.25, 19.0)
    return tmp_path


@pytest.fixture
def seeds(tmp_path):
    """A sweep of three learning rates by three seeds, of which one job failed."""
    values = {"0.1": [2.0, 2.2, 2.1], "0.2": [2.05, 2.3, 2.2], "0.3": [3.0, 3.1, None]}
    jobs = ((rate, seed, nats) for rate, column in values.items() for seed, nats in enumerate(column))
    for number, (rate, seed, nats) in enumerate(jobs):
        words = [f"seed={seed}", f"{RATE}={rate}"]
        JobRecord(number, words, "failed" if nats is None else "finished").write(tmp_path)
        if nats is not None:
            finish(tmp_path, number, nats, curve=[(10, nats + 1), (20, nats)])
    return tmp_path


def numbers(sweep):
    return [row.record.number for row in sweep.rows]


def test_the_best_job_comes_first_and_those_without_the_metric_last(folder):
    sweep = Sweep.read(folder)
    assert numbers(sweep) == [2, 0, 1]
    assert sweep.order == "stage2.nats, lowest first"
    assert sweep.varied == [RATE]
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


@pytest.mark.parametrize("status", ["failed", "stopped", "running"])
def test_a_job_that_did_not_finish_is_not_ranked_whatever_lies_in_its_folder(folder, status):
    finish(folder, 1, 0.5)
    JobRecord(1, ["seed=1", f"{RATE}=9"], status).write(folder)
    sweep = Sweep.read(folder)
    assert numbers(sweep) == [2, 0, 1]
    assert sweep.rows[2].metrics == {}  # nothing says that its settings made them
    write_sweep_page(folder / "sweep.html", sweep, grouped(sweep))
    (best,) = re.findall(r'<tr class="best">(.*?)</tr>', (folder / "sweep.html").read_text(), re.DOTALL)
    assert "2.25" in best


def test_the_csv_holds_every_override_and_metric(folder):
    rows = list(csv.DictReader(io.StringIO(as_csv(Sweep.read(folder)))))
    assert [row["job"] for row in rows] == ["2", "0", "1"]
    assert [row[RATE] for row in rows] == ["0.01", "0.1", "9"]
    assert [row["stage2.nats"] for row in rows] == ["2.25", "2.5", ""]
    assert [row["status"] for row in rows] == ["finished", "finished", "failed"]
    assert [row["error"] for row in rows] == ["", "", "it <broke> [sadly]"]


def test_a_key_that_a_command_line_leaves_out_has_the_value_of_the_settings(tmp_path):
    words = (["stage2.seed=1", "x.y=1e-3", "stage2=transformer"], [])
    for number, overrides in enumerate(words):
        settings = {"stage2": {"seed": 1}, "x": {"y": 0.001}}
        JobRecord(number, overrides, "failed", settings=settings).write(tmp_path)
    first, second = Sweep.read(tmp_path).rows
    assert first.values == {"stage2.seed": "1", "x.y": "0.001", "stage2": "transformer"}
    assert second.values == {"stage2.seed": "1", "x.y": "0.001"}


def test_the_page_is_self_contained_and_shows_samples(folder):
    (folder / "2" / "samples").mkdir()
    Image.new("L", (8, 8)).save(folder / "2" / "samples" / "grid.png")
    (folder / "2" / "report.html").write_text("")
    sweep = Sweep.read(folder)
    write_sweep_page(folder / "sweep.html", sweep, grouped(sweep))
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
    assert "Over seeds" not in page


def test_shares_are_in_percent():
    row = Row(JobRecord(0), {}, {"stage1.usage": 0.0125, "stage1.usage_1": 1.0, "stage2.nats": 0.0125})
    names = ("stage1.usage", "stage1.usage_1", "stage2.nats", "stage1.psnr")
    assert [value_of(row, name) for name in names] == ["1.25 %", "100 %", "0.0125", ""]
    assert spread_of(Spread(0.5, 0.125, 2), "stage1.usage") == "50 ± 12 %"


def test_the_table_is_written_and_says_what_did_not_finish(folder):
    with console.capture() as said:
        write_results(folder)
    assert "1 of 3 jobs did not finish" in said.get()
    assert "failed: it <broke> [sadly]" in said.get()
    assert (folder / "sweep.csv").read_text() == as_csv(Sweep.read(folder))
    assert (folder / "sweep.html").exists()
    assert not (folder / "groups.csv").exists()


def test_a_folder_without_jobs_gets_no_table(tmp_path):
    write_results(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_overrides_are_split_at_their_first_equals_sign():
    assert split(["+a.b=1", "c=[x=1]", "++d="]) == {"a.b": "1", "c": "[x=1]", "d": ""}


def test_keys_are_short_where_that_is_clear():
    assert shortest(["stage1/quantizer", "stage1.seed", "stage2.seed"]) == ["quantizer", "stage1.seed", "stage2.seed"]


def test_jobs_that_differ_in_seeds_alone_have_a_mean_and_a_deviation(seeds):
    groups = grouped(Sweep.read(seeds))
    assert [group.values for group in groups] == [{RATE: "0.1"}, {RATE: "0.2"}, {RATE: "0.3"}]
    assert [[row.record.number for row in group.rows] for group in groups] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    spread = groups[0].metrics["stage2.nats"]
    assert spread.mean == pytest.approx(np.mean([2.0, 2.2, 2.1]))
    assert spread.deviation == pytest.approx(np.std([2.0, 2.2, 2.1], ddof=1))
    assert [group.metrics["stage2.nats"].n for group in groups] == [3, 3, 2]  # of finished jobs


def test_groups_are_sorted_the_way_the_objective_is_better(seeds):
    for number in range(9):
        JobRecord(
            number, [f"seed={number % 3}", f"{RATE}=0.{1 + number // 3}", "objective=stage1.psnr"], "finished"
        ).write(seeds)
        finish(seeds, number, 2.0, psnr=number)
    assert [group.values[RATE] for group in grouped(Sweep.read(seeds))] == ["0.3", "0.2", "0.1"]


def test_without_repetitions_there_are_no_groups(folder):
    assert grouped(Sweep.read(folder)) == []


def test_seeds_swept_alone_are_one_group(tmp_path):
    for number in range(3):
        JobRecord(number, [f"stage2.seed={number}"], "finished").write(tmp_path)
        finish(tmp_path, number, 2.0 + number)
    (group,) = grouped(Sweep.read(tmp_path))
    assert group.values == {}
    assert group.metrics["stage2.nats"] == Spread(3.0, 1.0, 3)


def test_means_are_apart_by_welchs_test():
    near, far = [2.0, 2.2, 2.1], [2.05, 2.3, 2.2]
    assert ttest_ind(near, far, equal_var=False).pvalue > 0.05
    assert apart(Spread.of(near), Spread.of(far)) is False
    assert ttest_ind(near, [3.0, 3.1, 3.2], equal_var=False).pvalue < 0.05
    assert apart(Spread.of(near), Spread.of([3.0, 3.1, 3.2])) is True
    assert apart(Spread.of(near), Spread.of([9.0])) is None
    assert apart(Spread.of([1.0, 1.0]), Spread.of([1.0, 1.0])) is False
    assert apart(Spread.of([1.0, 1.0]), Spread.of([2.0, 2.0])) is True


def test_groups_are_on_the_screen_in_the_csv_and_on_the_page(seeds):
    with console.capture() as said:
        write_results(seeds)
    shown = said.get()
    assert "2.10 ± 0.10" in shown
    assert "2.18 ± 0.13" in shown
    assert "2 of 3" in shown
    assert " not apart" in shown
    assert "job 8 failed" in shown
    rows = list(csv.DictReader((seeds / "groups.csv").open()))
    assert [row[RATE] for row in rows] == ["0.1", "0.2", "0.3"]
    assert float(rows[1]["stage2.nats std"]) == pytest.approx(np.std([2.05, 2.3, 2.2], ddof=1))
    assert [row["stage2.nats n"] for row in rows] == ["3", "3", "2"]
    assert [row["jobs"] for row in rows] == ["0 1 2", "3 4 5", "6 7 8"]
    assert len((seeds / "sweep.csv").read_text().splitlines()) == 1 + 9  # it keeps the jobs
    page = (seeds / "sweep.html").read_text()
    assert "Over seeds" in page
    assert "2.10 ± 0.10" in page
    assert groups_as_csv(grouped(Sweep.read(seeds))) == (seeds / "groups.csv").read_text()


def test_learning_curves_are_means_with_the_range_as_a_band(seeds):
    sweep = Sweep.read(seeds)
    chart = learning_curves(sweep, grouped(sweep))
    assert [key.name for key in chart.legend] == ["learning_rate 0.1", "learning_rate 0.2", "learning_rate 0.3"]
    assert "step 20: 2.1<" in chart.svg
    assert "step 20: 3.05<" in chart.svg
    assert chart.svg.count("opacity: 0.18") == 3


def test_curves_of_jobs_without_repetitions_are_their_own_and_the_best_three_are_named(tmp_path):
    for number, nats in enumerate((4.0, 1.0, 3.0, 2.0, 5.0)):
        JobRecord(number, [f"x.y={number}"], "finished").write(tmp_path)
        finish(tmp_path, number, nats, curve=[(10, nats + 1), (20, nats)])
    sweep = Sweep.read(tmp_path)
    chart = learning_curves(sweep, grouped(sweep))
    assert [key.name for key in chart.legend] == ["job 1", "job 3", "job 2", "others"]
    assert "opacity: 0.18" not in chart.svg


def test_a_sweep_that_logged_nothing_has_no_curves(folder):
    sweep = Sweep.read(folder)
    assert learning_curves(sweep, []) is None


def test_eta_squared_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    labels, values = np.repeat([0, 1, 2], 5), rng.normal(size=15) + np.repeat([0.0, 1.0, 0.5], 5)
    f = f_oneway(*(values[labels == label] for label in range(3))).statistic
    expected = f * 2 / (f * 2 + 12)  # between over total, of 2 and 12 degrees of freedom
    assert eta_squared(labels, values) == pytest.approx(expected)


def sweep_of(objective, **columns):
    rows = [
        Row(
            JobRecord(n, status="finished"),
            {key: str(column[n]) for key, column in columns.items()},
            {"stage2.nats": y},
        )
        for n, y in enumerate(objective)
    ]
    return Sweep(None, "stage2.nats", rows)


def test_shares_of_a_grid_sum_to_one_where_there_is_neither_interaction_nor_chance():
    a, b = np.repeat([0, 1, 2], 4), np.tile([0, 1, 2, 3], 3)
    shares = importance(sweep_of(3.0 * a + b, a=a, b=b))
    assert list(shares) == ["a", "b"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["a"] == pytest.approx(9 * np.var([0, 1, 2]) / (9 * np.var([0, 1, 2]) + np.var([0, 1, 2, 3])))


def test_numbers_of_many_values_are_binned_so_that_chance_explains_little():
    rng = np.random.default_rng(0)
    x, noise = rng.uniform(size=300), rng.uniform(size=300)
    shares = importance(sweep_of(x, x=x, noise=noise))
    assert shares["x"] > 0.9
    assert shares["noise"] < 0.1


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0], []])
def test_of_too_few_or_equal_jobs_nothing_is_said(values):
    assert importance(sweep_of(values, x=range(len(values)))) == {}


def test_a_group_without_finished_jobs_comes_last_and_is_shown_empty(seeds):
    for number in (0, 1, 2):
        JobRecord(number, [f"seed={number}", f"{RATE}=0.1"], "failed", "no luck").write(seeds)
    groups = grouped(Sweep.read(seeds))
    assert groups[-1].values == {RATE: "0.1"}
    assert groups[-1].metrics == {}
    assert isinstance(groups[0], Group)
    assert math.isclose(groups[0].metrics["stage2.nats"].mean, np.mean([2.05, 2.3, 2.2]))
    with console.capture() as said:
        write_results(seeds)
    assert "0 of 3" in said.get()


def test_jobs_that_no_other_one_beats_are_marked(tmp_path):
    points = [(2.0, 20.0), (2.1, 25.0), (2.2, 24.0), (2.0, 19.0), (1.9, 10.0), (1.5, 30.0)]
    for number, (nats, psnr) in enumerate(points):
        status = "failed" if number == 5 else "finished"
        JobRecord(number, [f"seed={number}", "objective=[stage2.nats,stage1.psnr]"], status).write(tmp_path)
        finish(tmp_path, number, nats, psnr)
    sweep = Sweep.read(tmp_path)
    finished = points[:5]
    expected = {
        number
        for number, (nats, psnr) in enumerate(finished)
        if not any(n <= nats and p >= psnr and (n, p) != (nats, psnr) for n, p in finished)
    }
    assert sweep.efficient == expected == {0, 1, 4}
    rows = {int(row["job"]): row for row in csv.DictReader(io.StringIO(as_csv(sweep)))}
    assert {number for number, row in rows.items() if row["pareto"] == "1"} == expected
    write_sweep_page(tmp_path / "sweep.html", sweep, [])
    page = (tmp_path / "sweep.html").read_text()
    dots = re.findall(r'class="dot (a|faint) marked".*?<title>job (\d+): ', page)
    assert {int(number): tone for tone, number in dots} == {n: "a" if n in expected else "faint" for n in range(5)}
    assert page.count("<td>yes</td>") == len(expected)


def test_a_pruned_job_is_marked_and_never_the_best(tmp_path):
    for number, nats in enumerate((1.0, 2.0, 3.0)):
        why = ("pruned", "stage2.nats 1 at step 10, others are better") if number == 0 else ("finished", None)
        JobRecord(number, [f"x.y={number}", f"prune={number}"], *why).write(tmp_path)
        finish(tmp_path, number, nats, curve=[(10, nats + 1), (20, nats)])
    with console.capture() as said:
        write_results(tmp_path)
    assert "1 of 3 jobs were pruned" in said.get()
    assert "did not finish" not in said.get()
    rows = list(csv.DictReader((tmp_path / "sweep.csv").open()))
    assert [(row["job"], row["status"]) for row in rows] == [("1", "finished"), ("2", "finished"), ("0", "pruned")]
    assert rows[2]["error"] == "stage2.nats 1 at step 10, others are better"
    sweep = Sweep.read(tmp_path)
    assert sweep.varied == ["x.y"]  # what ends jobs early tells no jobs apart
    assert [key.name for key in learning_curves(sweep, []).legend] == ["job 1", "job 2", "job 0"]
    page = (tmp_path / "sweep.html").read_text()
    assert "2 of 3 jobs finished, 1 pruned" in page
    (best,) = re.findall(r'<tr class="best">(.*?)</tr>', page, re.DOTALL)
    assert '<td class="number right">2</td>' in best


def test_one_objective_marks_none(folder):
    assert Sweep.read(folder).efficient == set()
    assert "pareto" not in as_csv(Sweep.read(folder))
    write_sweep_page(folder / "sweep.html", Sweep.read(folder), [])
    assert "Pareto" not in (folder / "sweep.html").read_text()


def test_a_page_of_many_jobs_holds_the_samples_of_the_best_alone(tmp_path):
    for number in range(20):
        JobRecord(number, [f"seed={number}", f"n={number}"], "finished").write(tmp_path)
        finish(tmp_path, number, 2 + number / 10)
        (tmp_path / str(number) / "samples").mkdir()
        Image.new("L", (28, 28)).save(tmp_path / str(number) / "samples" / "grid.png")
    sweep = Sweep.read(tmp_path)
    write_sweep_page(tmp_path / "sweep.html", sweep, [])
    page = (tmp_path / "sweep.html").read_text()
    assert page.count("data:image/png") == 12
    named = re.findall(r'src="(\d+)/samples/grid.png"[^>]* loading="lazy"', page)
    assert named == [str(row.record.number) for row in sweep.rows[12:]]
