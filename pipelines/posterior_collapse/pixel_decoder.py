"""A gated PixelCNN over black and white pixels (arXiv 1606.05328), conditioned at every layer on latent vectors.

A decoder that can model images by itself: what it needs of the latents shows whether a model uses them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DILATIONS = (1, 2, 4)
"""Of the layers in turn, so that few layers see far."""


class GatedLayer(nn.Module):
    """A gated layer of the vertical and the horizontal stack, without a blind spot.

    The stacks' inputs are shifted once (see :class:`PixelDecoder`), so kernels may see their own place.

    Args:
        width: Channels of each stack.
        dilation: Of the convolutions.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.vertical = nn.Conv2d(width, 2 * width, (2, 3), dilation=dilation)
        self.horizontal = nn.Conv2d(width, 2 * width, (1, 2), dilation=dilation)
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.condition = nn.Conv2d(width, 4 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, above: Tensor, left: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks and the condition, ``[B, width, H, W]``, to both stacks."""
        reach = self.dilation
        for_above, for_left = self.condition(condition).chunk(2, dim=1)
        vertical = self.vertical(F.pad(above, (reach, reach, reach, 0)))
        horizontal = self.horizontal(F.pad(left, (reach, 0, 0, 0))) + self.across(vertical)
        return above + gate(vertical + for_above), left + self.out(gate(horizontal + for_left))


class PixelDecoder(nn.Module):
    """``p(x | z) = Π p(x_i | x_<i, z)`` over black and white pixels in reading order.

    Args:
        dim: D, channels of the latent vectors.
        downsample_factor: Pixels along each side that a latent vector stands for.
        width: Channels of the network.
        layers: Gated layers.
    """

    def __init__(self, dim: int, downsample_factor: int, width: int = 24, layers: int = 6) -> None:
        super().__init__()
        self.condition = nn.Sequential(
            nn.Conv2d(dim, width, 3, padding=1),
            nn.Upsample(scale_factor=downsample_factor),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.above = nn.Conv2d(1, width, (2, 3))
        self.left = nn.Conv2d(1, width, (1, 2))
        self.layers = nn.ModuleList(GatedLayer(width, DILATIONS[layer % len(DILATIONS)]) for layer in range(layers))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, 1, 1))

    def forward(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """Logits ``[B, 1, H, W]`` of white; those of a pixel depend on ``latents [B, D, h, w]`` and pixels before it.

        Args:
            pixels: ``[B, 1, H, W]``, 0 or 1.
            latents: ``[B, D, h, w]``.
        """
        condition = self.condition(latents)[..., : pixels.shape[-2], :]  # while drawing the last rows are not there
        signs = 2 * pixels - 1
        above = self.above(F.pad(signs, (1, 1, 2, 0)))[..., :-1, :]  # the two rows above
        left = self.left(F.pad(signs, (2, 0, 0, 0)))[..., :-1]  # the two pixels to the left
        for layer in self.layers:
            above, left = layer(above, left, condition)
        return self.head(left)

    def nats(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """Negative log-likelihood of each image in nats: ``[B]``."""
        logits = self(pixels, latents)
        return F.binary_cross_entropy_with_logits(logits, pixels, reduction="none").flatten(1).sum(1)

    @torch.no_grad()
    def draw(self, latents: Tensor, image_size: tuple[int, int], seed: int) -> Tensor:
        """Images ``[B, 1, H, W]`` of 0 and 1, drawn pixel by pixel given ``latents [B, D, h, w]``."""
        height, width = image_size
        noise = torch.rand(len(latents), height, width, generator=torch.Generator().manual_seed(seed))
        pixels = latents.new_zeros(len(latents), 1, height, width)
        for row in range(height):
            for column in range(width):
                white = torch.sigmoid(self(pixels[:, :, : row + 1], latents)[:, 0, row, column])
                pixels[:, 0, row, column] = (noise[:, row, column].to(white.device) < white).float()
        return pixels


def gate(x: Tensor) -> Tensor:
    """``tanh(a) · sigmoid(b)`` of the channels' halves (arXiv 1606.05328, equation 2)."""
    value, share = x.chunk(2, dim=1)
    return value.tanh() * share.sigmoid()
