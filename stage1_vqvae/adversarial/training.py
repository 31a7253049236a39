"""Training of a tokenizer against a discriminator (VQGAN, arXiv 2012.09841)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stage1_vqvae.adversarial.adversary import Adversary, gradient_penalty
from stage1_vqvae.adversarial.balance import AdaptiveWeight, LeCam
from stage1_vqvae.adversarial.discriminators import Discriminator
from stage1_vqvae.adversarial.optimizers import joined
from stage1_vqvae.data.augmentation import Augmentation
from stage1_vqvae.levels import LevelTokenizer
from stage1_vqvae.lightning_module import NO_AUGMENTATION, SQUARED_ERROR, TokenizerTraining, adam
from stage1_vqvae.losses import Objective

ADVERSARY = Adversary()
"""The adversarial loss unless told otherwise."""


class AdversarialTraining(TokenizerTraining):
    """Trains a tokenizer and a discriminator at once, each on the other as it was before the step.

    One backward pass and one optimiser serve both (:mod:`stage1_vqvae.adversarial.optimizers`): a step counts once, and
    a step whose loss or gradient is not finite on one side is skipped for both, with the codebooks, the adaptive weight
    and LeCAM's averages. Gradients are clipped for each side by itself. Averages of weights are the tokenizer's alone.

    Args:
        model, objective, augmentation, optimization, seed, channels_last: As for
            :class:`~stage1_vqvae.lightning_module.TokenizerTraining`.
        discriminator: Of images of the model's size and channels.
        discriminator_optimization: As ``optimization``, of the discriminator; its schedule begins at the onset.
        adversary: The adversarial loss, and when it begins.

    Raises:
        ValueError: If the discriminator cannot judge images as small as the model's.
    """

    not_averaged = ("discriminator.",)
    """Beginnings of the names of parameters of which no average is kept."""

    idle_parameters = True
    """Whether there are steps in which some parameters have no gradient."""

    compiles = False
    """Whether ``training_step`` is one graph for ``torch.compile``: gradients of parts of the loss are none."""

    def __init__(
        self,
        model: LevelTokenizer,
        discriminator: Discriminator,
        objective: Objective = SQUARED_ERROR,
        augmentation: Augmentation = NO_AUGMENTATION,
        optimization: Callable[[nn.Module, int], Any] = adam,
        seed: int = 0,
        channels_last: bool = False,
        discriminator_optimization: Callable[[nn.Module, int], Any] = adam,
        adversary: Adversary = ADVERSARY,
    ) -> None:
        super().__init__(model, objective, augmentation, optimization, seed, channels_last)
        if min(model.image_size) < discriminator.smallest:
            height, width = model.image_size
            raise ValueError(
                f"discriminator: images of {discriminator.smallest} pixels a side at least expected, got "
                f"{height}×{width}: give it fewer layers"
            )
        self.discriminator = discriminator
        self.discriminator_optimization = discriminator_optimization
        self.adversary = adversary
        self.balance = AdaptiveWeight(model.last_layer, adversary.largest)
        self.lecam = LeCam()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """As without a discriminator before the onset.

        After it the ``loss`` has the terms ``adversarial``, times ``adversarial_weight``, and ``discriminator``.
        """
        images, passed, found = self._reconstructed(batch)
        step = self.trainer.global_step
        if step < self.adversary.onset:
            return found
        with without_gradient(self.discriminator):
            adversarial = self.adversary.of_tokenizer(self.discriminator(passed.images))
        weight = torch.as_tensor(self.adversary.weight * self.adversary.share(step), device=images.device)
        if self.adversary.adaptive:
            self.balance.gather(found["reconstruction"], adversarial, self.model.last_layer)
            weight = weight * self.balance.weight
        loss = self._discriminator_loss(images, passed.images.detach())
        return found | {
            "loss": found["loss"] + weight * adversarial + loss,
            "adversarial": adversarial,
            "adversarial_weight": weight,
            "discriminator": loss,
        }

    def _discriminator_loss(self, images: Tensor, made: Tensor) -> Tensor:
        """What the discriminator minimises, a scalar, for images and reconstructions ``[B, C, H, W]``."""
        real, judged = self.discriminator(images), self.discriminator(made)
        loss = self.adversary.of_discriminator(real, judged)
        if self.adversary.lecam:
            loss = loss + self.adversary.lecam * self.lecam(real, judged)
        if self.adversary.r1:
            loss = loss + self.adversary.r1 / 2 * gradient_penalty(self.discriminator, images)
        return loss

    def after_step(self) -> None:
        """Step what changes once a step."""
        super().after_step()
        self.balance.step()
        self.lecam.step()

    def after_skipped_step(self) -> None:
        """Drop what was gathered for the step."""
        super().after_skipped_step()
        self.balance.discard()
        self.lecam.discard()

    def configure_optimizers(self) -> Any:
        """One optimiser of both sides, each with the settings and the schedule that it was given."""
        steps, onset = self.trainer.max_steps, self.adversary.onset
        second = self.discriminator_optimization(self.discriminator, max(steps - onset, 1))
        return joined(self.optimization(self.model, steps), second, onset)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip each side's gradient by its own norm."""
        if gradient_clip_val:
            for side in (self.model, self.discriminator):
                torch.nn.utils.clip_grad_norm_(side.parameters(), gradient_clip_val)


@contextmanager
def without_gradient(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module and reach none of its parameters."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
