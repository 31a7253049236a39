"""Vector quantization by nearest neighbour (arXiv 1711.00937), with both ways of learning the codebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.estimators import straight_through
from stage1_vqvae.quantizers.kmeans import kmeans
from stage1_vqvae.quantizers.ranks import pick_rows, sum_over_ranks
from stage1_vqvae.quantizers.search import nearest

POINTS_PER_CODE = 32
"""Encoder outputs per code that the k-means start looks at, at most."""


class VectorQuantizer(Quantizer):
    """Nearest-neighbour quantization with a codebook learned by gradient (arXiv 1711.00937, equation 3).

    The loss is ``|sg[z] - e|² + β |z - sg[e]|²``, each a mean over all elements: the first moves the codebook to
    the encoder's outputs, the second commits the encoder to the codebook. Gradients of the decoder pass straight
    through to the encoder.

    The codebook starts as k-means centres of the first training batch. A code whose share of use falls below
    ``revive_below`` of an even share is dead and restarts at a random encoder output.

    Args:
        dim: D, channels of a vector.
        codebook_size: K, number of codes.
        commitment: β, weight of the commitment term; the paper finds 0.1 to 2.0 to work alike.
        decay: γ of the moving average of each code's use.
        revive_below: Fraction of even use under which a code is revived; 0 never revives.
        revive_every: Optimiser steps between looks for dead codes.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(
        self,
        dim: int = 64,
        codebook_size: int = 512,
        commitment: float = 0.25,
        decay: float = 0.99,
        revive_below: float = 0.01,
        revive_every: int = 20,
    ) -> None:
        super().__init__()
        if dim < 1 or codebook_size < 1:
            raise ValueError(f"dim and codebook_size are at least 1, got {dim} and {codebook_size}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay is in [0, 1), got {decay}")
        self.dim = dim
        self.codebook_sizes = (codebook_size,)
        self.commitment = commitment
        self.decay = decay
        self.revive_below = revive_below
        self.revive_every = revive_every
        self._own_codebook(torch.randn(codebook_size, dim) / dim**0.5)
        self.register_buffer("usage", torch.zeros(codebook_size))  # moving average of vectors per code and step
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        # What the forward passes since the last step saw. Plain attributes, not buffers: no part of the state, and
        # nothing that DistributedDataParallel may overwrite with the first rank's.
        self._seen: Tensor | None = None  # vectors per code, [K]
        self._latest: Tensor | None = None  # the last pass's vectors, [N, D]

    codebook: Tensor
    usage: Tensor
    steps: Tensor
    started: Tensor

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        if z.ndim < 3 or z.shape[1] != self.dim:
            raise ValueError(f"vectors [B, {self.dim}, *spatial] expected, got {list(z.shape)}")
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            flat = rearrange(z, "b d ... -> (b ...) d")  # [N, D]
            if self.training and not self.started:
                self._start(flat.detach())
            codes = nearest(flat.detach(), self.codebook.detach())
            if self.training:
                self._observe(flat.detach(), codes)
            codes = codes.view(z.shape[0], *z.shape[2:])
            nearby = self.lookup(codes)
            return Quantized(straight_through(z, nearby), codes, self._loss(z, nearby))

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial]``."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def step(self) -> None:
        """Update the use of each code and revive the dead. To be called after every optimiser step, on all ranks."""
        if not self.started:
            return
        seen = self._seen if self._seen is not None else torch.zeros_like(self.usage)
        sum_over_ranks(seen)
        self.steps += 1
        # Weights of a debiased moving average: 1, 1/2, 1/3, … at first, 1 - γ in the long run. A start at random
        # encoder outputs is forgotten within a few steps.
        weight = (1 - self.decay) / (1 - self.decay ** self.steps.double())
        self._learn(seen, weight.float())
        self.usage.lerp_(seen, weight.float())
        if self.revive_below > 0 and int(self.steps) % self.revive_every == 0:
            self._revive()
        self._forget()

    def _own_codebook(self, codebook: Tensor) -> None:
        self.codebook = nn.Parameter(codebook)

    def _loss(self, z: Tensor, nearby: Tensor) -> Tensor:
        return F.mse_loss(nearby, z.detach()) + self.commitment * F.mse_loss(z, nearby.detach())

    def _learn(self, seen: Tensor, weight: Tensor) -> None:
        """Move the codebook by what all ranks saw (``seen [K]`` vectors per code); the gradient already did."""

    @torch.no_grad()
    def _start(self, flat: Tensor) -> None:
        """Start the codebook at the k-means centres of the first batch of all ranks."""
        size = self.codebook_sizes[0]
        points = pick_rows(flat, size * POINTS_PER_CODE, seed=0)
        if len(points):
            self.codebook.copy_(kmeans(points, size))
            self.started.fill_(True)

    def _observe(self, flat: Tensor, codes: Tensor) -> None:
        if self._seen is None:
            self._seen = torch.zeros_like(self.usage)
        self._seen.index_add_(0, codes, torch.ones_like(flat[:, 0]))
        self._latest = flat

    def _revive(self) -> None:
        """Restart dead codes at random vectors of the latest batch, with an even share of use so that they live."""
        dead = (self.usage < self.revive_below * self.usage.mean()).nonzero()[:, 0]  # [number of dead]
        if not len(dead):
            return
        latest = self._latest if self._latest is not None else self.codebook[:0]
        fresh = pick_rows(latest, len(dead), seed=int(self.steps))
        dead = dead[: len(fresh)]
        self.codebook[dead] = fresh
        self.usage[dead] = self.usage.mean()

    def _forget(self) -> None:
        self._seen = self._latest = None


class EMAVectorQuantizer(VectorQuantizer):
    """Nearest-neighbour quantization whose codebook follows moving averages (arXiv 1711.00937, appendix A.1).

    Each code is the mean ``m / N`` of moving averages of the vectors assigned to it and of their number. Since
    ``m = N e`` always holds, the state is the code e and its use N alone, and one step is::

        N' = N + w (n - N)        e' = e + w (s - n e) / N'        w = (1 - γ) / (1 - γ^t)

    with n vectors of sum s assigned at step t, the averages debiased by w as Adam's are. A code without vectors stays
    where it is, and nothing needs smoothing.

    The loss is the commitment term alone. Arguments and shapes are those of :class:`VectorQuantizer`.
    """

    _sums: Tensor | None = None  # of the vectors of each code since the last step, [K, D]

    def _own_codebook(self, codebook: Tensor) -> None:
        self.register_buffer("codebook", codebook)

    def _loss(self, z: Tensor, nearby: Tensor) -> Tensor:
        return self.commitment * F.mse_loss(z, nearby.detach())

    def _observe(self, flat: Tensor, codes: Tensor) -> None:
        super()._observe(flat, codes)
        if self._sums is None:
            self._sums = torch.zeros_like(self.codebook)
        self._sums.index_add_(0, codes, flat)

    def _learn(self, seen: Tensor, weight: Tensor) -> None:
        sums = self._sums if self._sums is not None else torch.zeros_like(self.codebook)
        sum_over_ranks(sums)
        after = self.usage.lerp(seen, weight).clamp(min=torch.finfo(self.usage.dtype).tiny)
        drift = sums - seen[:, None] * self.codebook
        self.codebook += weight * drift / after[:, None]

    def _forget(self) -> None:
        super()._forget()
        self._sums = None
