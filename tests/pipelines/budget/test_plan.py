import pytest
import torch

from pipelines.budget import choosing, timing
from pipelines.budget import plan as module
from pipelines.budget.plan import BUDGET, Plan, Planner
from pipelines.config.compose import settings_from
from pipelines.config.instantiate import build
from pipelines.run import main
from pipelines.tasks.run import run
from pipelines.training.images import RunImages
from stage1_vqvae.adversarial import AdversarialTraining
from stage1_vqvae.files import read_json, read_yaml, write_yaml
from tests.support.commands import forked_output
from tests.support.tiny import TINY

SMALL = ["n=10", "logger=csv", "stage2.model.width=16", "stage2.model.layers=1", "stage2.model.heads=2"]
SMALL += [
    "stage1.model.downsample_factor=8",
    "stage1.model.padding=2",
    "stage1.model.residual_width=4",
    "stage1.model.residual_layers=1",
    "stage1.model.width=8",
    "codes.copies=1",
]


class Clock:
    """Time that passes only when it is told to; steps take as long as the networks are wide."""

    def __init__(self, monkeypatch):
        self.now, self.timed = 0.0, 0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(choosing, "tokenizer_step", lambda settings, *_: settings["stage1"]["model"]["width"] / 640)
        for place in (module, choosing):
            monkeypatch.setattr(place, "prior_step", lambda settings, *_: 0.1)
        monkeypatch.setattr(choosing, "seconds_per_step", self.seconds)

    def seconds(self, step, device):
        self.timed += 1
        return step


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def settings_of(folder, *words):
    return settings_from("config", [f"output={folder}", *words])


@pytest.mark.parametrize(("budget", "width", "factor"), [("1h", 128, 2), ("10min", 64, 2), ("2min", 64, 4)])
def test_the_largest_model_that_gets_enough_steps_is_taken(clock, budget, width, factor, tmp_path, capsys):
    settings = settings_of(tmp_path, f"budget={budget}", "stage1.batch_size=16")
    planned, images = Planner(settings).whole(RunImages(settings))
    model = planned["stage1"]["model"]
    assert (model["width"], model["downsample_factor"]) == (width, factor)
    assert model["quantizer"]["codebook_size"] == planned["stage1"]["quantizer"]["codebook_size"] == 256
    assert planned["stage1"]["batch_size"] == 16
    assert images.opened.augmentation.shift == 1
    seconds = {"1h": 3600, "10min": 600, "2min": 120}[budget]
    assert planned["stage1"]["trainer"]["max_steps"] == int(0.35 * seconds / (width / 640))
    assert planned["stage2"]["trainer"]["max_steps"] == int(0.5 * seconds / 0.1)
    assert "the widest that gets enough steps" in capsys.readouterr().out
    assert read_yaml(tmp_path / BUDGET)["choices"]["stage1.model.width"] == width


def test_a_plan_is_kept_until_something_is_made_by_it(clock, tmp_path):
    words = ["budget=2min", "stage1.batch_size=16"]
    first = settings_of(tmp_path, *words)
    planned, _ = Planner(first).whole(RunImages(first))
    timed = clock.timed
    again, _ = Planner(first).whole(RunImages(first))
    assert again == planned
    assert clock.timed == timed
    other = settings_of(tmp_path, "budget=1h", "stage1.batch_size=16")
    assert Planner(other).whole(RunImages(other))[0]["stage1"]["model"]["width"] == 128
    (tmp_path / "checkpoints" / "stage1").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"was planned for stage1.batch_size=16 budget=1h: give these settings"):
        Planner(first).whole(RunImages(first))
    # More time for it is said in steps, which are taken.
    kept = read_yaml(tmp_path / BUDGET)
    more = settings_of(tmp_path, "budget=2h", "stage1.batch_size=16")
    with pytest.raises(
        ValueError, match=r"for budget=1h: give budget=1h .* or budget=2h with another output=$"
    ) as said:
        Planner(more).whole(RunImages(more))
    words = str(said.value).partition("give ")[2].partition(" to train")[0].split()
    steps = {key: 2 * kept["choices"][key] for key in ("stage1.trainer.max_steps", "stage2.trainer.max_steps")}
    assert words == ["budget=1h", *(f"{key}={value}" for key, value in steps.items())]
    longer = settings_of(tmp_path, "stage1.batch_size=16", *words)
    planned, _ = Planner(longer).whole(RunImages(longer))
    assert [planned[stage]["trainer"]["max_steps"] for stage in ("stage1", "stage2")] == list(steps.values())
    assert planned["stage1"]["trainer"]["validate_every"] == kept["choices"]["stage1.trainer.validate_every"]
    assert read_yaml(tmp_path / BUDGET) == kept
    # Nothing but steps may change so.
    wider = settings_of(tmp_path, "stage1.batch_size=8", *words)
    with pytest.raises(ValueError, match=r"was planned for stage1.batch_size=16 budget=1h: give these settings"):
        Planner(wider).whole(RunImages(wider))


def test_every_process_goes_by_the_first_ones_plan(clock, monkeypatch, tmp_path):
    """Their clocks tell other times."""
    settings = settings_of(tmp_path, "budget=2min")
    planner = Planner(settings)
    planned, _ = planner.whole(RunImages(settings))
    kept = read_yaml(tmp_path / BUDGET)
    firsts = {**kept, "choices": {**kept["choices"], "stage2.trainer.max_steps": 7}, "prior_measured": True}
    monkeypatch.setattr(module.collectives, "rank", lambda: 1)
    monkeypatch.setattr(module.collectives, "barrier", lambda: write_yaml(tmp_path / BUDGET, firsts))
    assert planner.prior(planned)["stage2"]["trainer"]["max_steps"] == 7


def test_without_a_budget_nothing_is_planned(clock, tmp_path):
    settings = settings_of(tmp_path)
    images = RunImages(settings)
    assert Planner(settings).whole(images) == (settings, images)
    assert Planner(settings).prior(settings) is settings
    assert list(tmp_path.iterdir()) == []


def test_a_run_spends_on_its_prior_what_stage_one_left(clock, monkeypatch, tmp_path):
    """Stage one and all before take 80 of 120 s, 6 are for samples and the report: 34 are left for steps of 17 s."""
    from pipelines.tasks import run as task

    def extract(*arguments):
        extract_codes(*arguments)
        clock.now += 80.0

    extract_codes = task.extract_codes
    monkeypatch.setattr(task, "extract_codes", extract)
    monkeypatch.setattr(choosing, "tokenizer_step", lambda *_: 20.0)
    for place in (module, choosing):
        monkeypatch.setattr(place, "prior_step", lambda *_: 17.0)
    words = [*SMALL, "budget=2min", f"data.cache={tmp_path / 'cache'}"]
    run(settings_of(tmp_path / "run", *words))
    folders = {"stage1": "tokenizer", "stage2": "prior"}
    made = {stage: read_yaml(tmp_path / "run" / folder / "settings.yaml") for stage, folder in folders.items()}
    assert {stage: settings[stage]["trainer"]["max_steps"] for stage, settings in made.items()} == {
        "stage1": 2,
        "stage2": 2,
    }
    assert Plan.read(tmp_path / "run" / BUDGET).prior_measured
    before = (tmp_path / "run" / "prior" / "model.safetensors").stat()
    run(settings_of(tmp_path / "run", *words))  # which is done
    assert (tmp_path / "run" / "prior" / "model.safetensors").stat() == before
    assert read_json(tmp_path / "run" / "prior" / "metrics.json")["nats"] > 0
    run(settings_of(tmp_path / "run", *words, "stage2.trainer.max_steps=3"))  # goes on, as without a budget
    assert read_yaml(tmp_path / "run" / "prior" / "settings.yaml")["stage2"]["trainer"]["max_steps"] == 3
    assert (tmp_path / "run" / "prior-of-2-steps" / "prior" / "model.safetensors").exists()


def test_steps_of_both_stages_are_taken_and_change_no_weight(tmp_path):
    settings = settings_of(
        tmp_path, *SMALL, f"data.cache={tmp_path / 'cache'}", "stage1.batch_size=4", "stage2.batch_size=4"
    )
    hardware = build(settings["hardware"], "hardware")
    steps = [
        timing.tokenizer_step(settings, hardware),
        timing.prior_step(settings, hardware),
    ]
    assert all(timing.seconds_per_step(step, hardware.device) > 0 for step in steps)


def test_a_step_against_a_discriminator_is_one_after_its_onset(tmp_path, monkeypatch):
    words = ("stage1/training=adversarial", "stage1.discriminator.width=4", "stage1.discriminator.layers=1")
    cache = f"data.cache={tmp_path / 'cache'}"
    settings = settings_of(
        tmp_path, *SMALL, *words, cache, "stage1.batch_size=4", "stage1.training.adversary.onset=500"
    )
    terms = []
    whole = AdversarialTraining.training_step
    monkeypatch.setattr(AdversarialTraining, "training_step", lambda *given: terms.append(whole(*given)) or terms[-1])
    step = timing.tokenizer_step(settings, build(settings["hardware"], "hardware"))
    for _ in range(2):
        step()
    assert len(terms) == 2
    assert {"adversarial", "discriminator"} <= terms[0].keys()
    assert terms[1]["adversarial_weight"] > 0


def test_the_time_of_a_step_is_the_median_without_the_first_ones(monkeypatch):
    ticks = iter([0, 0, 9, 0, 7, *(tick for seconds in (1, 2, 90, 3, 4) for tick in (0, seconds, 0))])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    assert timing.seconds_per_step(lambda: None, torch.device("cpu")) == 3.0


def test_the_command_plans_and_runs(clock, tmp_path):
    code, said = forked_output(main, [*TINY, "budget=2min", "output=planned"], tmp_path)
    assert code == 0, said
    assert read_yaml(tmp_path / "planned" / BUDGET)["budget"] == "2min"
    assert (tmp_path / "planned" / "samples" / "grid.png").is_file()
