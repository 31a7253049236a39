"""``python -m pipelines.train_stage2``: train a prior on the codes of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import seed_everything

from pipelines import processes
from pipelines.artifacts import Saved, load_tokenizer, save_model
from pipelines.batches import StageData
from pipelines.building import build
from pipelines.callbacks import callback_settings, callbacks
from pipelines.command import Settings, command, console
from pipelines.fit import StageTrainer, fit
from pipelines.hardware import Hardware
from pipelines.levels import LEVEL, check_agreement, join_levels
from pipelines.lineage import codes_artifact, prior_artifact
from pipelines.pictures import SamplePictures
from pipelines.run_folder import RunFolder, finished
from pipelines.settings import claim
from pipelines.sharding import ShardedPriorTraining, refuse_unsharded
from pipelines.tracking import Job, boards
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.code_store import CodeStore
from stage2_prior.files import write_json
from stage2_prior.sampling import SamplingSettings
from stage2_prior.training import PriorTraining


def train_stage2(settings: Settings) -> None:
    """Train the prior of ``settings["output"]``, unless that is done; go on where it was after a kill.

    ``stage2.level`` trains the part for one grid alone; the last part that is trained makes the prior whole.
    """
    run = RunFolder(Path(settings["output"]))
    level = settings["stage2"].get("level")
    part = level is not None and not finished(run.prior)
    folder, name = (run.level(level), f"prior of grid {level}") if part else (run.prior, "prior")
    hardware, trainer = parts_of_training(settings)
    tokenizer, saved = load_tokenizer(run.tokenizer, settings["trust"])
    sources = prior_sources(settings, saved.fingerprint)
    if part:
        build(settings["stage2"]["model"], "stage2.model", settings["trust"], layout=tokenizer.layout).level(level)
        check_agreement(run, sources)
    claim(folder / "settings.yaml", sources, name)
    if finished(folder):
        console.print(f"[green]✓[/] {name}: already trained ({folder})")
    else:
        figures = train_prior(run, folder, settings, tokenizer, saved, hardware, trainer)
        console.print(
            f"[green]✓[/] {name}: {figures['nats']:.3f} nats per code held out "
            f"(knowing nothing {figures['uniform_nats']:.3f}, frequencies {figures['unigram_nats']:.3f})"
        )
    if part:
        join_levels(run, settings["trust"])


def prior_sources(settings: Settings, tokenizer: str) -> dict[str, Any]:
    """What a prior depends on, beside the tokenizer's fingerprint; the parts of one depend on the same."""
    stage = {key: value for key, value in settings["stage2"].items() if key != "level"}
    sources = {"tokenizer": tokenizer, "codes": settings["codes"], "stage2": stage, "seed": settings["seed"]}
    return sources | callback_settings(settings, "stage2")


def parts_of_training(settings: Settings) -> tuple[Hardware, StageTrainer]:
    """What a prior is trained on and for how long, with whatever else the settings name built once.

    Raises:
        ValueError: If something does not fit.
    """
    stage = settings["stage2"]
    build(stage["optimization"], "stage2.optimization", settings["trust"])
    trainer = build({"_target_": "pipelines.fit.StageTrainer", **stage["trainer"]}, "stage2.trainer")
    hardware = build(settings["trainer"], "trainer")
    if hardware.sharded:
        refuse_unsharded(trainer)
    callbacks(settings, "stage2")
    build(settings["logger"], "logger", settings["trust"])
    SamplingSettings(**settings["sampling"])
    return hardware, trainer


def train_prior(
    run: RunFolder,
    folder: Path,
    settings: Settings,
    tokenizer: Tokenizer,
    saved: Saved,
    hardware: Hardware,
    trainer: StageTrainer,
) -> dict[str, float]:
    """Train a prior, or the part of it that ``stage2.level`` names, into its folder; returns its figures."""
    stage, level, trust = settings["stage2"], settings["stage2"].get("level"), settings["trust"]
    seed_everything(settings["seed"], verbose=False)
    train, validation = (CodeStore.open(run.codes(split), saved.fingerprint) for split in ("train", "validation"))
    if processes.rank() == 0:
        train.verify()
        validation.verify()
    classes = len(train.class_names)
    prior = build(stage["model"], "stage2.model", trust, layout=train.layout, num_classes=classes)
    model = prior if level is None else prior.level(level)
    training = ShardedPriorTraining if hardware.sharded else PriorTraining
    optimization = build(stage["optimization"], "stage2.optimization", trust)
    module = training(model, stage["label_dropout"], train.unigram_entropy(level), optimization)
    data = StageData(train, validation, stage["batch_size"], settings["seed"], workers=0)
    own = callbacks(settings, "stage2")
    # One rank draws samples, which no rank alone could do of a prior that is spread over them, and none of a part.
    if not hardware.sharded and level is None:
        own.insert(0, SamplePictures(tokenizer, SamplingSettings(**settings["sampling"]), run.pictures("stage2")))
    job = "stage2" if level is None else f"stage2.{level}"
    best: tuple[str, Literal["min", "max"]] = ("validation/nats", "min")
    with build(settings["logger"], "logger", trust).track(Job.of(run.path, job, settings)) as loggers:
        title = f"stage 2: {'prior' if level is None else f'prior of grid {level}'}"
        figures = fit(title, module, data, run.checkpoints(job), trainer, hardware, loggers, own, best=best)
        if isinstance(module, ShardedPriorTraining):
            module.gather(model)
        if processes.rank() == 0:
            write_json(folder / "metrics.json", figures)
            config = {
                "model": stage["model"],
                "layout": train.layout.to_dict(),
                "num_classes": classes,
                "class_names": list(train.class_names),
                "tokenizer": saved.fingerprint,
                "sampling": settings["sampling"],
            }
            save_model(folder, "prior" if level is None else LEVEL, model, config)
            for board in boards(loggers) if level is None else ():
                board.log_lineage(prior_artifact(run), [codes_artifact(run)])
    processes.barrier()
    return figures


main = command("config")(train_stage2)

if __name__ == "__main__":
    main()
