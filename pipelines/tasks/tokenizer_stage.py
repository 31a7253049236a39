"""Stage one of a run, by whichever command: it is claimed, trained, goes on after a kill, and is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule
from rich.markup import escape

from pipelines.artifacts.models import Saved, save_model
from pipelines.artifacts.run_folder import RunFolder, finished
from pipelines.cli.console import console
from pipelines.config.claims import Claim
from pipelines.config.instantiate import build
from pipelines.config.settings import Settings, stage_seed
from pipelines.distributed import collectives
from pipelines.sweep.early_end import early_end
from pipelines.tracking.base import media_loggers
from pipelines.tracking.earlier import set_aside_logs
from pipelines.tracking.image_logging import ReconstructionImages
from pipelines.tracking.job import Artifact, Job
from pipelines.tracking.lineage import tokenizer_artifact
from pipelines.training.callbacks import callbacks
from pipelines.training.data import StageData
from pipelines.training.fit import fit
from pipelines.training.images import RunImages, check_batch_size, describe_images
from pipelines.training.more_steps import go_further
from pipelines.training.tokenizer_module import tokenizer_module
from pipelines.training.variance import with_variance
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.files import write_json
from stage1_vqvae.levels import LevelTokenizer
from stage1_vqvae.tokenizer import Tokenizer


@dataclass(frozen=True)
class Subject:
    """What is trained, and what is kept of it.

    Attributes:
        title: What the progress bar says.
        model: What the training sees.
        tokenizer: What is saved, whose weights the model's are.
        config: What is to be known of it beside the images, for its ``config.yaml``.
        made_of: What trackers know it was made of.
        discriminator: Whose weights the training's discriminator starts with; None for its random start.
    """

    title: str
    model: LevelTokenizer
    tokenizer: Tokenizer
    config: Mapping[str, Any]
    made_of: Sequence[Artifact] = ()
    discriminator: Saved | None = None


class TokenizerStage:
    """The stage of a run that trains its tokenizer, or a part of it.

    Args:
        settings: Of the command.
        images: That it is trained on.
        claim_of: What makes the tokenizer; of images, their content too.

    Raises:
        ValueError: If a setting is wrong.
    """

    def __init__(self, settings: Settings, images: RunImages, claim_of: Callable[[ImageData | None], Claim]) -> None:
        trust, stage = settings["trust"], settings["stage1"]
        build(stage["objective"], "stage1.objective", trust)  # what is wrong with it is said before images are decoded
        self.optimization = build(stage["optimization"], "stage1.optimization", trust)
        self.trainer = build(stage["trainer"], "stage1.trainer")
        self.hardware = build(settings["hardware"], "hardware")
        self.callbacks = [*callbacks(settings, "stage1"), *early_end(settings, "stage1")]
        self.tracker = build(settings["logger"], "logger", trust)
        self.settings = settings
        self.images = images
        self.claim_of = claim_of
        self.run = RunFolder(Path(settings["output"]))

    def is_done(self) -> bool:
        """Whether the tokenizer is there, which is said.

        Raises:
            ValueError: If other settings or other images made what is there.
        """
        if not finished(self.run.tokenizer) or self.claim_of(None).of_fewer_steps() is not None:
            self.claim_of(None).check()  # before images are decoded, which may take long
            return False
        self.claim_of(self.images.if_there).check()
        if self.images.if_there:
            self.images.remember(self.run)
        console.print(f"[green]✓[/] tokenizer: already trained ({self.run.tokenizer})")
        return True

    def begin(self) -> None:
        """Write down what the tokenizer is made by and of; what another one has made or logged here is set aside."""
        claim = self.claim_of(self.images.opened)
        claim.check()
        go_further(self.run, claim, self.optimization)
        if claim.take():
            set_aside_logs(self.run, "stage1")
        self.images.remember(self.run)

    def train(self, subject: Subject) -> dict[str, float]:
        """Train, from the newest checkpoint on, and save what is kept, the configuration last.

        Returns:
            Its metrics on held-out images.

        Raises:
            ValueError: If a setting does not go with the images or the model.
        """
        settings, stage, trust = self.settings, self.settings["stage1"], self.settings["trust"]
        found, seed = self.images.opened, stage_seed(settings, "stage1")
        check_batch_size("stage1", stage["batch_size"], len(found.train))
        objective = build(with_variance(settings, self.run, found)["stage1"]["objective"], "stage1.objective", trust)
        module = tokenizer_module(
            stage,
            trust,
            model=subject.model,
            objective=objective,
            augmentation=found.augmentation,
            optimization=self.optimization,
            seed=seed,
            channels_last=self.hardware.channels_last,
        )
        if subject.discriminator is not None:
            subject.discriminator.load_weights(module.get_submodule("discriminator"))
            console.print(f"discriminator: goes on from {escape(str(subject.discriminator.folder))}")
        data = StageData(found.train, found.validation, stage["batch_size"], seed, found.workers)
        self.begin()
        pictures = ReconstructionImages(found.validation, self.run.pictures("stage1"))
        with self.tracker.track(Job.of(self.run.path, "stage1", settings)) as loggers:
            where = (self.run.checkpoints("stage1"), self.trainer, self.hardware, loggers)
            metrics = fit(subject.title, module, data, *where, [pictures, *self.callbacks])
            if collectives.rank() == 0:
                self._save(subject, module, metrics)
                for logger in media_loggers(loggers):
                    logger.log_summary(metrics)
                    logger.log_lineage(tokenizer_artifact(self.run), subject.made_of)
        collectives.barrier()
        return metrics

    def _save(self, subject: Subject, module: LightningModule, metrics: dict[str, float]) -> None:
        stage, trust = self.settings["stage1"], self.settings["trust"]
        write_json(self.run.tokenizer / "metrics.json", metrics)
        save_discriminator(self.run, module, stage, trust)
        described = {**subject.config, "data": describe_images(self.images.opened)}
        save_model(self.run.tokenizer, "tokenizer", subject.tokenizer, described, trust)


def save_discriminator(run: RunFolder, module: LightningModule, stage: Settings, trust: Sequence[str]) -> None:
    """Write what a tokenizer was trained against, if anything; it is no part of the tokenizer's fingerprint."""
    if "discriminator" in (stage.get("training") or {}):
        described = {"model": stage["training"]["discriminator"]}
        save_model(run.discriminator, "discriminator", module.get_submodule("discriminator"), described, trust)
