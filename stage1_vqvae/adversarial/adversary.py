"""What the two sides of an adversarial training minimise, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from stage1_vqvae.adversarial.discriminators import Discriminator


@dataclass(frozen=True)
class Adversary:
    """Settings of an adversarial loss.

    Attributes:
        loss: ``hinge`` (arXiv 1705.02894) or ``non_saturating`` (arXiv 1406.2661, section 3).
        weight: Of the tokenizer's adversarial term, times the adaptive weight if there is one.
        adaptive: Whether the term is weighed so that its gradient in the decoder's last layer is as long as that of the
            reconstruction (arXiv 2012.09841, equation 7).
        largest: That the adaptive weight becomes.
        onset: Optimiser steps without a discriminator. From then on it learns.
        ramp: Steps from the onset in which the tokenizer's adversarial term rises from nothing to its weight.
        lecam: Weight of LeCAM's regularisation of the discriminator (arXiv 2104.03310), for few images; 0 for none.
        r1: Weight γ of the penalty γ/2 · E‖∇D(x)‖² on images (arXiv 1801.04406); 0 for none.

    Raises:
        ValueError: If a setting is out of range.
    """

    loss: Literal["hinge", "non_saturating"] = "hinge"
    weight: float = 0.5
    adaptive: bool = True
    largest: float = 100.0
    onset: int = 0
    ramp: int = 500
    lecam: float = 0.0
    r1: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in ("hinge", "non_saturating"):
            raise ValueError(f"loss is hinge or non_saturating, got {self.loss!r}")
        for name in ("weight", "largest", "onset", "ramp", "lecam", "r1"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is at least 0, got {getattr(self, name)}")

    def share(self, step: int) -> float:
        """Share of its weight that the tokenizer's adversarial term has in a step, counted from 0."""
        since = step - self.onset
        return 0.0 if since <= 0 else min(1.0, since / max(self.ramp, 1))

    def of_tokenizer(self, judged: Tensor) -> Tensor:
        """The tokenizer's term, a scalar, for logits ``[B, P]`` of its reconstructions."""
        return -judged.float().mean() if self.loss == "hinge" else F.softplus(-judged.float()).mean()

    def of_discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, for logits ``[B, P]`` of images and of reconstructions."""
        real, made = real.float(), made.float()
        if self.loss == "hinge":
            return (F.relu(1 - real).mean() + F.relu(1 + made).mean()) / 2
        return (F.softplus(-real).mean() + F.softplus(made).mean()) / 2


def gradient_penalty(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Mean over ``images [B, C, H, W]`` of the squared length of the judgement's gradient: E‖∇D(x)‖², a scalar.

    An image's judgement is the mean of its patches' logits.
    """
    images = images.detach().requires_grad_()
    with torch.autocast(images.device.type, enabled=False):  # squares of half precision's gradients are nothing
        judged = discriminator(images.float()).mean(1).sum()
        (gradient,) = torch.autograd.grad(judged, images, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
