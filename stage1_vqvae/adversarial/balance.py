"""What a step of an adversarial training learns of the steps before it: the adaptive weight, and LeCAM's averages.

Both gather over the batches of a step and change once at its end, over all ranks; a skipped step leaves them. So the
numbers do not depend on how a batch is divided, and they are part of a checkpoint.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from stage1_vqvae.quantizers.ranks import sum_over_ranks

SMALLEST = 1e-6
"""δ of equation 7: a gradient of length zero divides nothing."""

DECAY = 0.99
"""Of LeCAM's averages (arXiv 2104.03310, section 4)."""


class AdaptiveWeight(nn.Module):
    """The ratio of two gradients' lengths in the decoder's last layer (arXiv 2012.09841, equation 7).

    A step is weighed by the gradients of the step before, which are the whole batch's. It starts at 0.

    Args:
        layer: Weights of the decoder's last layer.
        largest: That the ratio becomes.
    """

    weight: Tensor
    gathered: Tensor

    def __init__(self, layer: nn.Parameter, largest: float) -> None:
        super().__init__()
        self.largest = largest
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("gathered", torch.zeros(2, layer.numel()), persistent=False)

    def gather(self, reconstruction: Tensor, adversarial: Tensor, layer: nn.Parameter) -> None:
        """Add one batch's gradients of the two terms, scalars, to those of the step."""
        for row, loss in enumerate((reconstruction, adversarial)):
            (gradient,) = torch.autograd.grad(loss, layer, retain_graph=True)
            self.gathered[row] += gradient.flatten()

    def step(self) -> None:
        """Take the ratio of what was gathered; one that is not finite leaves the weight as it was."""
        total = self.gathered.clone()
        sum_over_ranks(total)
        reconstruction, adversarial = total.norm(dim=1)
        ratio = (reconstruction / (adversarial + SMALLEST)).clamp(max=self.largest)
        self.weight.copy_(torch.where(ratio.isfinite(), ratio, self.weight))
        self.discard()

    def discard(self) -> None:
        """Drop what was gathered: its step was skipped."""
        self.gathered.zero_()


class LeCam(nn.Module):
    """Keeps judgements near the average of those of the other side (arXiv 2104.03310, equation 6)."""

    averages: Tensor
    updates: Tensor
    gathered: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("averages", torch.zeros(2))  # of the logits of images, and of reconstructions
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("gathered", torch.zeros(3), persistent=False)  # sums of both, and their number

    def forward(self, real: Tensor, made: Tensor) -> Tensor:
        """The penalty, a scalar, for logits ``[B, P]`` of images and of reconstructions; 0 before the first step."""
        real, made = real.float(), made.float()
        self.gathered += torch.stack([real.detach().mean(), made.detach().mean(), real.new_ones(())])
        of_real, of_made = self.averages
        penalty = (real - of_made).square().mean() + (made - of_real).square().mean()
        return cast(Tensor, penalty * (self.updates > 0))

    def step(self) -> None:
        """Move the averages towards the step's judgements; the first step's are the start."""
        total = self.gathered.clone()
        sum_over_ranks(total)
        now = total[:2] / total[2].clamp(min=1)
        moved = torch.where(self.updates > 0, self.averages.lerp(now, 1 - DECAY), now)
        judged = (total[2] > 0) & now.isfinite().all()
        self.averages.copy_(torch.where(judged, moved, self.averages))
        self.updates += judged
        self.discard()

    def discard(self) -> None:
        """Drop what was gathered: its step was skipped."""
        self.gathered.zero_()
