"""Jobs of a sweep end early: the rules against brute force, what they see of other jobs, and sweeps with them."""

import csv
import random
import sys
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from pytorch_lightning.trainer.states import TrainerFn

from pipelines.run import main
from pipelines.sweep import Median, SuccessiveHalving
from pipelines.sweep.early_end import Condition, Prune, StopIf, early_end
from pipelines.sweep.grid_order import grid_in_random_order
from pipelines.sweep.pruned import JobPruned, noting_pruned
from pipelines.sweep.records import read_records
from stage1_vqvae.files import read_json
from tests.support.tiny import TINY

STEPS = 36


def curves(jobs, seed):
    """Losses that fall towards limits of different height at one speed, by validations every 2 steps."""
    limits = random.Random(seed).sample(range(jobs), jobs)
    return [{step: limit + 20 / step for step in range(2, STEPS + 1, 2)} for limit in limits]


def grid(rule, whole):
    """What is left of each job's curve if the jobs run one after another."""
    done = []
    for curve in whole:
        own = {}
        for step, value in curve.items():
            own[step] = value
            if step < STEPS and rule.ends(own, done, STEPS):
                break
        done.append(own)
    return done


@pytest.mark.parametrize("rule", [SuccessiveHalving(), SuccessiveHalving(reduction=2), Median()], ids=str)
def test_twelve_jobs_keep_their_winner_in_fewer_steps(rule):
    for seed in range(20):
        whole = curves(12, seed)
        done = grid(rule, whole)
        finished = [job for job, own in enumerate(done) if max(own) == STEPS]
        best = min(range(12), key=lambda job: whole[job][STEPS])
        assert min(finished, key=lambda job: done[job][STEPS]) == best
        assert sum(map(max, done)) < 0.9 * 12 * STEPS


def test_successive_halving_takes_at_most_three_fifths_of_the_steps():
    shares = [sum(map(max, grid(SuccessiveHalving(), curves(12, seed)))) / (12 * STEPS) for seed in range(200)]
    assert sum(shares) / len(shares) < 0.45
    assert sum(share <= 0.6 for share in shares) >= 180  # an order from the worst to the best prunes least


def test_a_grid_that_is_pruned_runs_in_a_random_order():
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # which Hydra loads anew

    overrides = OverridesParser.create().parse_overrides(["a=1,2,3", "b=range(5)", "c=0"])
    (listed,) = BasicSweeper.split_arguments(overrides, None)
    with grid_in_random_order():
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        batches = BasicSweeper.split_arguments(overrides, 4)
    assert jobs != listed
    assert sorted(jobs) == sorted(listed)
    assert [len(batch) for batch in batches] == [4, 4, 4, 3]
    assert [job for batch in batches for job in batch] == jobs
    assert BasicSweeper.split_arguments(overrides, None) == [listed]


def test_a_rung_counts_once_and_from_the_first_validation_on():
    rule = SuccessiveHalving(first=0.5, reduction=2)  # rungs at 5 and 10
    worse, better = {6: 3.0}, [{6: 1.0, 8: 0.9}, {7: 2.0}, {4: 0.1}]  # the last has not reached it
    assert rule.ends(worse, better, 10)
    assert not rule.ends({4: 3.0}, better, 10)  # before the rung
    assert not rule.ends({6: 3.0, 8: 9.0}, better, 10)  # it has passed the rung
    assert rule.ends({6: 0.5, 10: 9.0}, [{10: 1.0}, {11: 2.0}], 10)
    assert not rule.ends({6: 1.5}, better, 10)  # second of three, of which two go on
    assert not rule.ends({6: 9.0}, [], 10)


def test_the_median_is_of_jobs_at_the_same_step():
    rule = Median(first=0.4, least=3)
    others = [{4: 1.0, 8: 0.1}, {4: 2.0, 8: 0.2}, {4: 3.0, 8: 0.3}]
    assert rule.ends({4: 2.1}, others, 10)
    assert not rule.ends({4: 1.9}, others, 10)
    assert not rule.ends({2: 9.0}, others, 10)
    assert not rule.ends({4: 2.1}, others[:2], 10)
    assert not rule.ends({4: 0.15, 8: 0.9}, others, 10)  # its best so far counts


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SuccessiveHalving(1000), "first is a share of the training, in .0, 1., got 1000"),
        (lambda: SuccessiveHalving(reduction=1), "reduction"),
        (lambda: Median(least=0), "least"),
    ],
)
def test_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stage1.usage < 0.05", Condition("stage1", "usage", False, 0.05, 0)),
        ("stage2.nats>3 after 500", Condition("stage2", "nats", True, 3.0, 500)),
        (" stage1.psnr < -1e1 ", Condition("stage1", "psnr", False, -10.0, 0)),
    ],
)
def test_conditions_are_read(text, expected):
    assert Condition.read(text) == expected


@pytest.mark.parametrize("text", ["usage < 0.05", "stage1.usage = 1", "stage1.usage < 1-", "stage1.usage < 1 after x"])
def test_a_condition_that_cannot_be_read_is_shown_one_that_can(text):
    with pytest.raises(ValueError, match=r"stop_if=.*'stage1.usage < 0.05 after 500'"):
        Condition.read(text)


def validation(step, last=10, **metrics):
    """A trainer after a validation."""
    logged = {f"validation/{name}": value for name, value in metrics.items()}
    fitting = SimpleNamespace(fn=TrainerFn.FITTING)
    return SimpleNamespace(state=fitting, global_step=step, max_steps=last, callback_metrics={"epoch": 0, **logged})


def log(folder, stage, name, values):
    """Write values by step as a training does, which counts steps from 0."""
    (folder / "logs").mkdir(parents=True)
    lines = [f"{stage},{step - 1},validation/{name},{value}" for step, value in values.items()]
    (folder / "logs" / "metrics.csv").write_text("\n".join(["stage,step,metric,value", *lines, ""]))


def test_a_job_sees_what_others_logged_in_their_folders_and_in_shared_ones(tmp_path):
    log(tmp_path / "0", "stage1", "psnr", {4: 20.0})
    log(tmp_path / "1", "stage1", "psnr", {4: 20.0})  # it shares the tokenizer, and has its metrics
    log(tmp_path / "shared" / "tokenizer-a", "stage1", "psnr", {4: 21.0, 8: "nan"})
    own = tmp_path / "shared" / "tokenizer-b"
    log(own, "stage1", "psnr", {2: 50.0, 4: 50.0, 6: 50.0})  # what it logged before it was killed after step 2
    prune = Prune(Median(0.4, least=2), "stage1.psnr", tmp_path, own)
    assert prune.others() == [{4: -20.0}, {4: -21.0}]
    prune.on_validation_end(validation(4, psnr=30.0), None)
    log(tmp_path / "2", "stage1", "psnr", {4: 60.0})
    log(tmp_path / "3", "stage1", "psnr", {4: 61.0})
    prune.on_validation_end(validation(4, psnr=30.0), None)  # its best, at step 2, is above the median
    (own / "logs" / "metrics.csv").unlink()
    with pytest.raises(JobPruned, match=r"stage1.psnr 30 at step 4, others are better") as ended:
        prune.on_validation_end(validation(4, psnr=30.0), None)
    assert ended.value.value == 30.0
    prune.on_validation_end(validation(4, last=4, psnr=1.0), None)  # the last validation ends nothing


def test_a_condition_ends_a_training_and_the_sweeper_gets_the_objective():
    stop = StopIf(Condition("stage2", "usage", False, 0.5, 4), "stage2.nats")
    stop.on_validation_end(validation(2, usage=0.1, nats=3.0), None)
    stop.on_validation_end(validation(4, usage=0.6, nats=3.0), None)
    with pytest.raises(JobPruned, match=r"stage2.usage 0.4 at step 6 \(stop_if\)") as ended:
        stop.on_validation_end(validation(6, usage=0.4, nats=2.5), None)
    assert ended.value.value == 2.5
    with pytest.raises(ValueError, match=r"stage2.usage: a validation logs no such metric; did you mean usages\?"):
        stop.on_validation_end(validation(6, usages=0.4), None)


def test_a_condition_also_ends_the_training_of_a_part_of_a_prior():
    settings = {"prune": None, "stop_if": "stage2.nats > 3", "objective": None, "trust": []}
    (stop,) = early_end(settings, "stage2.1")
    with pytest.raises(JobPruned, match=r"stage2.nats 4 at step 6"):
        stop.on_validation_end(validation(6, nats=4.0), None)
    assert early_end(settings, "stage1") == []


def test_several_objectives_are_not_pruned_by():
    rule = {"_target_": "pipelines.sweep.Median"}
    settings = {"objective": ["stage2.nats", "stage1.psnr"], "prune": rule, "stop_if": None, "trust": []}
    with pytest.raises(ValueError, match="prune: it goes by one objective"):
        early_end(settings, "stage2")


def test_a_note_holds_for_its_rule(tmp_path):
    settings = {"prune": None, "stop_if": "stage1.usage < 1", "objective": None}
    with pytest.raises(JobPruned, match="bad"), noting_pruned(tmp_path, settings):
        raise JobPruned("bad", 2.0)
    with pytest.raises(JobPruned, match="bad") as ended, noting_pruned(tmp_path, settings):
        raise AssertionError("it is trained again")
    assert ended.value.value == 2.0
    with noting_pruned(tmp_path, {**settings, "stop_if": None}):
        pass
    assert list(tmp_path.iterdir()) == []


def jobs(folder):
    """The table of a sweep by number."""
    return {row["job"]: row for row in csv.DictReader((folder / "sweep.csv").open())}


@pytest.mark.slow
def test_pruned_jobs_of_both_stages_are_marked_and_not_trained_again(monkeypatch, capfd, tmp_path):
    """Jobs 0 and 3 share a tokenizer and end in stage two, 1 and 2 share one that ends."""
    monkeypatch.chdir(tmp_path)
    words = ["stage1.optimization.learning_rate=1e-9,0.01", "stage2.label_dropout=0.1,0.2", "objective=stage1.psnr"]
    rules = ["prune=halving", "prune.reduction=2", "stop_if=stage2.nats > 0"]

    def sweep(*words):
        monkeypatch.setattr(sys, "argv", ["run", "-m", *TINY, "output=sweep", *words])
        main()
        return capfd.readouterr().out

    said = sweep(*words, *rules)
    folder = tmp_path / "sweep"
    first = jobs(folder)
    assert {row["status"] for row in first.values()} == {"pruned"}
    assert [" at step 3 (stop_if)" in first[job]["error"] for job in "0123"] == [True, False, False, True]
    assert first["1"]["error"] == first["2"]["error"]
    assert first["2"]["error"].endswith("at step 3, others are better")
    assert "job 2: pruned: stage1.psnr" in said
    assert "4 of 4 jobs were pruned" in said
    assert "did not finish" not in said
    assert 'class="best"' not in (folder / "sweep.html").read_text()
    assert [read_json(folder / job / "pruned.json")["reason"] for job in "0123"] == [
        first[job]["error"] for job in "0123"
    ]

    made = {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.csv")}
    sweep(*words, *rules)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.csv")} == made
    assert {job: row["error"] for job, row in jobs(folder).items()} == {job: row["error"] for job, row in first.items()}

    sweep("stage1.optimization.learning_rate=0.01", "stage2.label_dropout=0.1", "objective=stage1.psnr")
    assert [record.status for record in read_records(folder)] == ["finished", "pruned", "pruned", "pruned"]
    assert not (folder / "0" / "pruned.json").exists()
