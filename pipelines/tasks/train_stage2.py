"""Train a prior on the codes of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything

from pipelines.artifacts.levels import LEVEL, check_agreement, join_levels
from pipelines.artifacts.models import load_tokenizer, recipe, save_model, write_recipe
from pipelines.artifacts.provenance import write_record
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.artifacts.unfinished import describe_training
from pipelines.cli.console import console
from pipelines.config.claims import SETTINGS, Claim
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings, stage_seed
from pipelines.distributed import collectives
from pipelines.distributed.fsdp import ShardedPriorTraining, built_on_first, shard_policy
from pipelines.inputs.labels import trained_classes
from pipelines.sweep.early_end import early_end
from pipelines.tasks.taken_tokenizer import with_tokenizer
from pipelines.tracking.base import media_loggers
from pipelines.tracking.earlier import set_aside_logs
from pipelines.tracking.image_logging import SampleImages
from pipelines.tracking.job import Job
from pipelines.tracking.lineage import codes_artifact, prior_artifact
from pipelines.training.callbacks import callback_settings, callbacks
from pipelines.training.data import StageData
from pipelines.training.fit import fit
from pipelines.training.images import check_batch_size
from pipelines.training.more_steps import go_further
from pipelines.training.stage_trainer import StageTrainer, refuse_ema_with_fsdp
from pipelines.training.warm_start import init_fingerprint, warm_start
from stage1_vqvae.files import sha256, write_json
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.code_store.manifest import MANIFEST
from stage2_prior.code_store.store import CodeStore
from stage2_prior.lightning_module import PriorTraining
from stage2_prior.prior import Prior


@dataclass(frozen=True)
class Part:
    """What is trained: the whole prior, or its part for one grid.

    Attributes:
        level: Number of the grid; None for the whole.
        folder: Where it is saved.
        kind: What its ``config.yaml`` calls it.
        name: What a person calls it.
        job: What trackers and checkpoints call its training.
    """

    level: int | None
    folder: Path
    kind: str
    name: str
    job: str

    @classmethod
    def of(cls, run: RunFolder, settings: Settings) -> Part:
        """What the settings ask for; of a prior that is whole there is no part left to train."""
        level = settings["stage2"].get("level")
        if level is None or finished(run.prior):
            return cls(None, run.prior, "prior", "prior", "stage2")
        return cls(level, run.level(level), LEVEL, f"prior of grid {level}", f"stage2.{level}")


def train_stage2(settings: Settings) -> None:
    """Train the prior of ``settings["output"]``, unless that is done; go on where it was after a kill.

    ``stage2.level`` trains the part for one grid alone; the last part that is trained makes the prior whole.
    """
    run = RunFolder(Path(settings["output"]))
    part = Part.of(run, settings)
    check_training(settings)
    tokenizer, saved = load_tokenizer(run.tokenizer, settings["trust"])
    if settings.get("tokenizer") and with_tokenizer(settings)["taken_from"] != saved.fingerprint:
        raise ValueError(f"{run.tokenizer} is not the tokenizer of {settings['tokenizer']}: give another output=")
    sources = prior_sources(settings, saved.codes_fingerprint)
    if part.level is not None:
        build(settings["stage2"]["model"], "stage2.model", settings["trust"], layout=tokenizer.layout).level(part.level)
        check_agreement(run, sources)
    claim = part_claim(part, run, sources, settings)
    claim.check()
    if finished(part.folder) and claim.of_fewer_steps() is None:
        console.print(f"[green]✓[/] {part.name}: already trained ({part.folder})")
        if part.level is None and collectives.rank() == 0 and not run.samples.exists():  # of the recipe before
            write_recipe(part.folder, settings["sampling"], settings["trust"])
    else:
        metrics = train_part(part, run, tokenizer, saved.codes_fingerprint, claim, settings)
        console.print(
            f"[green]✓[/] {part.name}: {metrics['nats']:.3f} nats per code held out "
            f"(knowing nothing {metrics['uniform_nats']:.3f}, frequencies {metrics['unigram_nats']:.3f})"
        )
    if part.level is not None:
        join_levels(run, settings["trust"])


def part_claim(part: Part, run: RunFolder, sources: dict[str, Any], settings: Settings) -> Claim:
    """What makes a prior, or a part of it."""
    return Claim(
        part.folder / SETTINGS,
        {**sources, "stores": stores(run)},
        part.name,
        products=[part.folder / "model.safetensors", part.folder / "config.yaml"],
        checkpoints=run.checkpoints(part.job),
        trust=settings["trust"],
        names={"seed": "stage2.seed", "stage2.optimization._target_": "stage2/optimizer"},
        stage="stage2" if part.level is None else None,  # a part goes with the others, which fewer steps made
    )


def stores(run: RunFolder) -> dict[str, str]:
    """Digest of the codes of each split, those that are there."""
    paths = {split: run.codes(split) / MANIFEST for split in ("train", "validation")}
    return {split: sha256(path) for split, path in paths.items() if path.exists()}


def prior_sources(settings: Settings, tokenizer: str) -> dict[str, Any]:
    """What a prior depends on, beside the fingerprint of the tokenizer's codes; the parts of one depend on the same."""
    stage = {key: value for key, value in settings["stage2"].items() if key not in ("level", "seed", "init")}
    sources = {"tokenizer": tokenizer, "codes": settings["codes"], "stage2": stage}
    sources["seed"] = stage_seed(settings, "stage2")
    return sources | init_fingerprint(settings, "stage2") | callback_settings(settings, "stage2")


def check_training(settings: Settings) -> None:
    """Build what the training is made of, so that a mistake is found before anything is claimed or read.

    Raises:
        ValueError: If something does not fit.
    """
    build(settings["stage2"]["optimization"], "stage2.optimization", settings["trust"])
    trainer = stage_trainer(settings)
    if build(settings["hardware"], "hardware").sharded:
        refuse_ema_with_fsdp(trainer)
    callbacks(settings, "stage2")
    early_end(settings, "stage2")
    build(settings["logger"], "logger", settings["trust"])
    recipe(settings["sampling"], settings["trust"])


def stage_trainer(settings: Settings) -> StageTrainer:
    """How long and how carefully stage two trains."""
    return build(settings["stage2"]["trainer"], "stage2.trainer")


def open_stores(run: RunFolder, tokenizer: str) -> tuple[CodeStore, CodeStore]:
    """The codes of training and validation images by the tokenizer of a fingerprint, verified on the first rank."""
    train, validation = (CodeStore.open(run.codes(split), tokenizer) for split in ("train", "validation"))
    if collectives.rank() == 0:
        train.verify()
        validation.verify()
    return train, validation


def begin(run: RunFolder, part: Part, claim: Claim, optimization: Any) -> None:
    """Write down what the part is made by; what another one has made or logged here is set aside."""
    go_further(run, claim, optimization)
    if claim.take():
        set_aside_logs(run, part.job)


def new_prior(settings: Settings, store: CodeStore, sharded: bool) -> Prior:
    """A prior of a store's codes before its training; one that is to be sharded takes memory on rank 0 alone."""
    known = {"layout": store.layout, "num_classes": len(store.class_names)}
    make = partial(build, settings["stage2"]["model"], "stage2.model", settings["trust"], **known)
    prior: Prior = built_on_first(make) if sharded else make()
    warm_start(prior, "stage2", settings)
    return prior


def train_part(
    part: Part, run: RunFolder, tokenizer: Tokenizer, codes_fingerprint: str, claim: Claim, settings: Settings
) -> dict[str, float]:
    """Train a prior, or a part of it, into its folder; returns its metrics."""
    stage, trust, seed = settings["stage2"], settings["trust"], stage_seed(settings, "stage2")
    seed_everything(seed, verbose=False)
    train, validation = open_stores(run, codes_fingerprint)
    copies = train.manifest.augmentation["copies"]
    check_batch_size("stage2", stage["batch_size"], len(train) // copies, copies)
    config = {
        "model": stage["model"],
        "layout": train.layout.to_dict(),
        "num_classes": len(train.class_names),
        "class_names": list(train.class_names),
        "class_counts": train.class_counts(),
        "tokenizer": codes_fingerprint,
        "sampling": settings["sampling"],
    }
    hardware = build(settings["hardware"], "hardware")
    prior = new_prior(settings, train, hardware.sharded)
    model = prior if part.level is None else prior.level(part.level)
    policy = shard_policy(hardware.training_precision)
    training = partial(ShardedPriorTraining, policy=policy) if hardware.sharded else PriorTraining
    optimization = build(stage["optimization"], "stage2.optimization", trust)
    entropy = train.unigram_entropy(part.level)
    module = training(model, stage["label_dropout"], entropy, optimization, stage.get("random_order"))
    data = StageData(train, validation, stage["batch_size"], seed, workers=0)
    watchers = [*callbacks(settings, "stage2"), *early_end(settings, part.job)]
    begin(run, part, claim, optimization)
    if collectives.rank() == 0:
        describe_training(run.checkpoints(part.job), part.kind, config, trust)
    # One rank draws samples, which no rank alone could do of a prior that is spread over them, and none of a part.
    if not hardware.sharded and part.level is None:
        classes = trained_classes(train.class_names, train.class_counts())
        sampling = recipe(settings["sampling"], trust)
        watchers.insert(0, SampleImages(tokenizer, classes, sampling, run.pictures("stage2")))
    with build(settings["logger"], "logger", trust).track(Job.of(run.path, part.job, settings)) as loggers:
        metrics = fit(
            f"stage 2: {part.name}",
            module,
            data,
            run.checkpoints(part.job),
            stage_trainer(settings),
            hardware,
            loggers,
            watchers,
            best=("validation/nats", "min"),
        )
        if isinstance(module, ShardedPriorTraining):
            module.gather(model)
        if collectives.rank() == 0:
            write_json(part.folder / "metrics.json", metrics)
            if part.level is not None:
                write_record(part.folder, settings)
            save_model(part.folder, part.kind, model, config, trust)
            for logger in media_loggers(loggers) if part.level is None else ():
                logger.log_summary(metrics)
                logger.log_lineage(prior_artifact(run), [codes_artifact(run)])
    collectives.barrier()
    return metrics
