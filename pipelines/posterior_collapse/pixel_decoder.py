"""An autoregressive decoder of black and white pixels, conditioned on latent vectors.

It can model images by itself: how much it needs the latents shows whether a model uses them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage2_prior.pixelcnn import GatedStack
from stage2_prior.pixelcnn.cache import CachedStack

KERNEL = 5
"""Side of the decoder's kernels: with 6 layers a pixel of a 16×16 image sees nearly all pixels before it."""


class PixelDecoder(nn.Module):
    """``p(x | z) = Π p(x_i | x_<i, z)``, a gated PixelCNN over black and white pixels in raster order.

    Every layer is conditioned on the latent vectors, upsampled to the image's size.

    Args:
        dim: D, channels of the latent vectors.
        image_size: ``(H, W)``.
        downsample_factor: Pixels along each side that a latent vector stands for.
        width: Channels of the network.
        layers: Gated layers.
    """

    def __init__(
        self, dim: int, image_size: tuple[int, int], downsample_factor: int, width: int = 24, layers: int = 6
    ) -> None:
        super().__init__()
        upsampling = nn.Sequential(
            nn.Conv2d(dim, width, 3, padding=1),
            nn.Upsample(scale_factor=downsample_factor),
            nn.Conv2d(width, width, 3, padding=1),
        )
        height, columns = image_size
        self.stack = GatedStack((height, columns), 2, upsampling, width, layers, KERNEL)

    def forward(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """Logits ``[B, H, W, 2]`` of black and white; those of a pixel depend on the latents and the pixels before it.

        Args:
            pixels: ``[B, 1, H, W]``, 0 or 1.
            latents: ``[B, D, h, w]``.
        """
        return self.stack(pixels[:, 0].long(), self.stack.condition(latents))

    def nats(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """Negative log-likelihood of each image ``[B, 1, H, W]`` in nats: ``[B]``."""
        logits = self(pixels, latents).movedim(-1, 1)
        return F.cross_entropy(logits, pixels[:, 0].long(), reduction="none").flatten(1).sum(1)

    @torch.inference_mode()
    def draw(self, latents: Tensor, seed: int) -> Tensor:
        """Images ``[B, 1, H, W]`` of 0 and 1, drawn pixel by pixel given ``latents [B, D, h, w]``."""
        height, width = self.stack.shape
        noise = torch.rand(len(latents), height * width, generator=torch.Generator().manual_seed(seed))
        noise = noise.to(latents.device)
        steps = CachedStack(self.stack.folded(), self.stack.condition(latents))
        drawn: list[Tensor] = []
        for position in range(height * width):
            logits = steps.next_logits(drawn[-1] if drawn else None)
            drawn.append((noise[:, position] < logits.softmax(-1)[:, 1]).long())
        return torch.stack(drawn, dim=1).unflatten(1, (1, height, width)).to(latents.dtype)
