"""Distance of images in the features of a network that knows photographs (LPIPS without its weights, 1801.03924)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.networks.lite0 import Lite0


class Perceptual(nn.Module):
    """Squared distance of EfficientNet-Lite0's features, scaled to length 1 at every place (arXiv 1801.03924).

    The mean over places and layers of the sum over channels: 0 for equal images, about 2 for unrelated ones. Grey and
    transparent images are shown as :func:`~stage1_vqvae.networks.lite0.as_rgb` says.

    Args:
        layers: Of the network, 0 to 16; 0 is the stem, at half the resolution.

    Raises:
        ValueError: If the packages that bring the network are not installed, or there is no such layer.
    """

    def __init__(self, layers: Sequence[int] = (0, 1, 3, 5, 6)) -> None:
        super().__init__()
        self.network = Lite0(layers)

    def forward(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """A scalar for ``reconstruction [B, C, H, W]`` of ``images [B, C, H, W]``."""
        with torch.no_grad():
            expected = self.network(images)
        distances = [distance(*pair) for pair in zip(self.network(reconstruction), expected, strict=True)]
        return torch.stack(distances).mean()


def distance(features: Tensor, others: Tensor) -> Tensor:
    """Mean over places of the squared distance of features ``[B, C, h, w]``, each of length 1: a scalar."""
    # In float32: half a precision's worth of length 1 is more than images differ by.
    one, other = (F.normalize(part.float(), dim=1, eps=1e-6) for part in (features, others))
    return (one - other).square().sum(1).mean()
