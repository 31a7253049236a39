"""When codebooks step in a training by Lightning: after each optimiser step that happened."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule


class CodebookSteps(LightningModule):
    """A training whose codebooks step with its optimiser, and skip the steps that it skips.

    Attributes:
        model: What is trained, a module with ``step`` and ``discard`` as a
            :class:`~stage1_vqvae.quantizers.base.Quantizer` has them.
    """

    model: Any

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step the optimiser, then the codebooks; a step whose gradients were dropped happens to neither."""
        happened: list[bool] = []  # a gradient scaler may pass the optimiser's step over
        handle = self.trainer.optimizers[0].register_step_post_hook(lambda *_: happened.append(True))
        super().optimizer_step(*args, **kwargs)
        handle.remove()
        if happened and any(parameter.grad is not None for parameter in self.model.parameters()):
            self.after_step()
        else:
            self.after_skipped_step()

    def after_step(self) -> None:
        """Step what steps with the optimiser: the codebooks."""
        self.model.step()

    def after_skipped_step(self) -> None:
        """Drop what was gathered for a step that did not happen."""
        self.model.discard()
