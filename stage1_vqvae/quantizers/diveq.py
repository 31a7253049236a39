"""DiVeQ (arXiv 2509.26469): the quantization error as a random vector whose length carries the gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from stage1_vqvae.quantizers.search import Metric
from stage1_vqvae.quantizers.vector import Init, VectorQuantizer


class DiVeQ(VectorQuantizer):
    """Nearest-neighbour quantization that gradients pass by reparameterisation (arXiv 2509.26469, section 3).

    In training, with e the nearest code and v noise of a small variance::

        z_q = z + |e - z| sg[d / |d|]        d = e - z + v        v ~ N(0, σ²)

    which is e but for the noise in its direction. The length of the error moves codebook and encoder towards one
    another, so that there is no loss of the quantizer's own, and no weight to choose. In evaluation it is e.

    Start, use and revival of codes are those of :class:`VectorQuantizer`.

    Args:
        dim: D, channels of a vector.
        codebook_size: K, number of codes.
        noise_variance: σ², variance of a channel of the noise.
        decay: γ of the moving average of each code's use.
        revive_after: Vectors per code that pass before an unused one is revived; 0 never revives.
        metric: What is near: ``euclidean`` distance or ``cosine`` of the angle.
        init: Where the codebook starts: ``kmeans`` centres of the first training batch, ``random`` vectors, or a
            tensor ``[K, D]``.

    Raises:
        ValueError: If a value is out of range.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(
        self,
        dim: int = 64,
        codebook_size: int = 512,
        noise_variance: float = 1e-3,
        decay: float = 0.99,
        revive_after: float = 10.0,
        metric: Metric = "euclidean",
        init: Init | Tensor = "kmeans",
    ) -> None:
        if noise_variance < 0:
            raise ValueError(f"noise_variance is at least 0, got {noise_variance}")
        super().__init__(dim, codebook_size, 0.0, decay, revive_after, metric, init=init)
        self.noise_variance = noise_variance

    def _passed(self, z: Tensor, nearby: Tensor) -> Tensor:
        if not self.training:
            return nearby
        error = nearby - z
        with torch.no_grad():
            noisy = error + self.noise_variance**0.5 * torch.randn_like(error)
            direction = noisy / noisy.norm(dim=1, keepdim=True).clamp(min=torch.finfo(noisy.dtype).tiny)
        return z + error.norm(dim=1, keepdim=True) * direction

    def _loss(self, z: Tensor, nearby: Tensor) -> Tensor:
        return 0 * z.sum()
