"""Checkpoints from which a training resumes to the same bits, also after it was asked to stop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from pipelines.config.claims import SETTINGS, earlier_settings
from pipelines.distributed import collectives
from pipelines.training.checkpoint_files import FORMAT, VerifiedIO, step_path, steps_in
from pipelines.training.nonfinite import refuse_non_finite
from pipelines.training.preemption import StopRequest
from stage1_vqvae.files import read_yaml
from stage2_prior.code_store.manifest import digest_of

KEPT = 2
"""Checkpoints kept to resume from: a damaged newest leaves the one before."""


class Checkpoints(Checkpoint):
    """Saves checkpoints to resume from, each at the end of an optimiser step.

    A step with a validation is saved after the validation. The checkpoint of the best validation is never removed.
    When the process is asked to stop, all ranks agree on the step, save it and exit. A validation that was
    interrupted is not part of the checkpoint: the resumed training begins with that validation.

    Args:
        folder: For ``step-N.ckpt`` files.
        every: Steps between checkpoints.
        stop: Whether this process was asked to stop.
        best: Metric by which the best validation is told, and its direction; None keeps none.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        stop: StopRequest,
        best: tuple[str, Literal["min", "max"]] | None,
    ) -> None:
        self.folder = folder
        self.every = every
        self.stop = stop
        self.best = best
        self.bests: list[tuple[int, float]] = []  # step and score of the best validation and the one it replaced
        self._done = 0  # steps already looked at: a step of several batches ends several times
        self._saved = 0  # step of the last checkpoint written
        self._validates_first = False  # of the checkpoint that is being written

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the step that the training resumes from: it is saved already."""
        self._done = trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Finish the step before, whose metrics are logged by now: save it if due, and exit if any rank is to stop."""
        self._finish_step(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish and save the last step, also of a training that a callback ended early."""
        self._finish_step(trainer)
        if self._saved != trainer.global_step:
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exit before a validation if any rank is to stop; the last validation always runs."""
        fitting = trainer.state.fn == TrainerFn.FITTING
        if (fitting and trainer.global_step == trainer.max_steps) or not collectives.on_any(self.stop.requested):
            return
        if fitting:
            self._save(trainer, validates_first=True)
        self.stop.exit(trainer.global_step)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Exit in the middle of a validation if any rank is to stop."""
        # Ranks may have different numbers of batches; all of them ask about those that each rank has.
        common = trainer.datamodule.common_validation_batches  # type: ignore[attr-defined]
        if batch_idx < common:
            self.on_validation_start(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation if a checkpoint is due, or if the validation is the best so far."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        better = self._is_best(trainer)
        if better:
            self.bests = [*self.bests[-1:], (trainer.global_step, self._score(trainer))]
        self._finish_step(trainer, worth_keeping=better)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the format and the best validations, and say whether a validation comes first."""
        checkpoint["format"] = FORMAT
        checkpoint["bests"] = self.bests
        checkpoint["made_by"] = next(iter(settings_digests(self.folder)), None)
        _complete_progress(checkpoint["loops"]["fit_loop"], self._validates_first)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take over the best validations, and let a training that had ended go on where it is given more steps."""
        made_by = checkpoint.get("made_by")  # version 0.1.0 did not write it
        digests = settings_digests(self.folder)
        if made_by is not None and made_by not in digests:
            raise ValueError(
                f"{self.folder} holds a checkpoint of other settings than its {SETTINGS} says: "
                f"remove {self.folder} to train from the start"
            )
        if made_by != next(iter(digests), None):
            _reopen_epoch(checkpoint["loops"]["fit_loop"])
        self.bests = [(int(step), float(score)) for step, score in checkpoint["bests"]]

    def _finish_step(self, trainer: Trainer, worth_keeping: bool = False) -> None:
        step = trainer.global_step
        if step == self._done:
            return
        self._done = step
        stopping = self.stop.agreed
        if stopping or worth_keeping or step % self.every == 0 or step == trainer.max_steps:
            self._save(trainer)
        if stopping:
            self.stop.exit(step)

    def _score(self, trainer: Trainer) -> float:
        assert self.best is not None
        # Metrics of a validation are logged on the first rank alone, which decides and writes.
        return float(trainer.callback_metrics[self.best[0]]) if collectives.rank() == 0 else 0.0

    def _is_best(self, trainer: Trainer) -> bool:
        if self.best is None:
            return False
        sign = 1 if self.best[1] == "max" else -1
        score = sign * self._score(trainer)
        better = math.isfinite(score) and (not self.bests or score > sign * self.bests[-1][1])
        return collectives.on_any(better and collectives.rank() == 0)

    def _save(self, trainer: Trainer, validates_first: bool = False) -> None:
        refuse_non_finite(trainer.lightning_module, str(trainer.precision))
        self._validates_first = validates_first
        trainer.save_checkpoint(step_path(self.folder, trainer.global_step))
        self._validates_first = False
        self._saved = trainer.global_step
        if trainer.is_global_zero:
            self._remove_old(trainer.global_step)

    def _remove_old(self, newest: int) -> None:
        before = [step for step in steps_in(self.folder) if step < newest][: KEPT - 1]
        keep = {newest, *before, *(step for step, _ in self.bests)}
        for step in steps_in(self.folder):
            if step not in keep:
                VerifiedIO().remove_checkpoint(step_path(self.folder, step))


def settings_digests(folder: Path) -> list[str]:
    """SHA-256 of the settings that make what is trained in a folder, hexadecimal, and of those before more steps.

    Empty where nothing says them.
    """
    path = folder / SETTINGS
    return [digest_of(one) for one in (read_yaml(path), *earlier_settings(folder))] if path.exists() else []


def _complete_progress(fit_loop: dict[str, Any], validates_first: bool) -> None:
    """Count a step and its validation as completed in Lightning's progress.

    Args:
        fit_loop: Lightning's state of its loop, changed in place.
        validates_first: Whether the validation was begun and is to be repeated.
    """
    batches = fit_loop["epoch_loop.batch_progress"]
    for count in (batches["total"], batches["current"]):
        count.update(dict.fromkeys(count, count["processed"]))
    batches["is_last_batch"] = False
    if validates_first:
        validation = fit_loop["epoch_loop.val_loop.batch_progress"]
        validation["total"] = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        validation["current"] = dict.fromkeys(validation["current"], 0)
        validation["is_last_batch"] = False


def _reopen_epoch(fit_loop: dict[str, Any]) -> None:
    """Count the epoch, of which a training has one, as not ended, in Lightning's state of its loop."""
    for count in fit_loop["epoch_progress"].values():
        count.update(processed=0, completed=0)
