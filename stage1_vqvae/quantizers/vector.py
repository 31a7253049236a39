"""Vector quantization by nearest neighbour (arXiv 1711.00937), with both ways of learning the codebook."""

from __future__ import annotations

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.estimators import ESTIMATORS, Estimator
from stage1_vqvae.quantizers.kmeans import kmeans
from stage1_vqvae.quantizers.ranks import pick_rows, sum_over_ranks
from stage1_vqvae.quantizers.search import Metric, nearest, unit_length
from stage1_vqvae.quantizers.shapes import checked, rows_of

POINTS_PER_CODE = 32
"""Encoder outputs per code that the k-means start looks at, at most."""


class VectorQuantizer(Quantizer):
    """Nearest-neighbour quantization with a codebook learned by gradient (arXiv 1711.00937, equation 3).

    The loss is ``|sg[z] - e|² + β |z - sg[e]|²``, each a mean over all elements: the first moves the codebook to
    the encoder's outputs, the second commits the encoder to the codebook.

    With the cosine metric (arXiv 2110.04627, section 3.2) z and e stand for the vectors divided by their lengths,
    everywhere: in search, lookup and loss. That paper's projection to few dimensions is a small ``dim``, since a
    convolution ends the encoder and another begins the decoder.

    The codebook starts as k-means centres of the first training batch. A code that got none of the last
    ``revive_after`` times K vectors, of which an even share would have been that many, is dead and restarts at a
    random vector of the batch, as a code that was never used. Vectors that are not finite count nowhere.

    Args:
        dim: D, channels of a vector.
        codebook_size: K, number of codes.
        commitment_cost: β, weight of the commitment term; the paper finds 0.1 to 2.0 to work alike.
        decay: γ of the moving average of each code's use.
        revive_after: Vectors per code that pass before an unused one is revived; 0 never revives.
        metric: What is near: ``euclidean`` distance or ``cosine`` of the angle.
        gradient: How the decoder's gradient passes to the encoder: ``straight_through`` or ``rotation``.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(
        self,
        dim: int = 64,
        codebook_size: int = 512,
        commitment_cost: float = 0.25,
        decay: float = 0.99,
        revive_after: float = 10.0,
        metric: Metric = "euclidean",
        gradient: Estimator = "straight_through",
    ) -> None:
        super().__init__()
        if dim < 1 or codebook_size < 1:
            raise ValueError(f"dim and codebook_size are at least 1, got {dim} and {codebook_size}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay is in [0, 1), got {decay}")
        if revive_after < 0:
            raise ValueError(f"revive_after is at least 0, got {revive_after}")
        if metric not in get_args(Metric) or gradient not in ESTIMATORS:
            raise ValueError(
                f"metric is {' or '.join(get_args(Metric))} and gradient {' or '.join(ESTIMATORS)}, "
                f"got {metric!r} and {gradient!r}"
            )
        self.dim = dim
        self.codebook_sizes = (codebook_size,)
        self.commitment_cost = commitment_cost
        self.decay = decay
        self.revive_after = revive_after
        self.metric = metric
        self.gradient = gradient
        # Float32 by name: a training in lower precision changes the default.
        self._own_codebook(torch.randn(codebook_size, dim, dtype=torch.float32) / dim**0.5)
        use = torch.zeros(codebook_size, dtype=torch.float32)
        self.register_buffer("usage", use)  # moving average of vectors per code and step
        self.register_buffer("idle", use.clone())  # vectors, over K, since the last that a code got
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        # What the forward passes since the last step saw. Plain attributes, not buffers: no part of the state, and
        # nothing that DistributedDataParallel may overwrite with the first rank's.
        self._seen: Tensor | None = None  # vectors per code, [K]
        self._vectors: list[Tensor] = []  # of each pass, [N, D]

    codebook: Tensor
    usage: Tensor
    idle: Tensor
    steps: Tensor
    started: Tensor

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        with torch.autocast(z.device.type, enabled=False):
            z = self._measured(checked(z, self.dim), dim=1)
            flat = rows_of(z.detach())  # [N, D]
            if self.training and not self.started:
                self._start(flat)
            codebook = self._measured(self.codebook, dim=1)  # [K, D]
            codes = nearest(flat, codebook.detach())
            if self.training:
                self._observe(flat, codes, finite(flat))
            codes = codes.view(z.shape[0], *z.shape[2:])
            nearby = F.embedding(codes, codebook).movedim(-1, 1)
            return Quantized(ESTIMATORS[self.gradient](z, nearby), codes, self._loss(z, nearby))

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial]``."""
        return F.embedding(codes, self._measured(self.codebook, dim=1)).movedim(-1, 1)

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
        self.idle.add_(seen.mean()).masked_fill_(seen > 0, 0)
        if self.revive_after > 0 and self.steps > 1:  # the codes started at the first step's vectors
            self._revive()
        self.discard()

    def discard(self) -> None:
        """Forget what the forward passes since the last step saw."""
        self._seen = None
        self._vectors = []

    def _own_codebook(self, codebook: Tensor) -> None:
        self.codebook = nn.Parameter(codebook)

    def _loss(self, z: Tensor, nearby: Tensor) -> Tensor:
        return F.mse_loss(nearby, z.detach()) + self.commitment_cost * F.mse_loss(z, nearby.detach())

    def _learn(self, seen: Tensor, weight: Tensor) -> None:
        """Move the codebook by what all ranks saw (``seen [K]`` vectors per code); the gradient already did."""

    def _measured(self, vectors: Tensor, dim: int) -> Tensor:
        """Vectors as the metric sees them."""
        return unit_length(vectors, dim) if self.metric == "cosine" else vectors

    @torch.no_grad()
    def _start(self, flat: Tensor) -> None:
        """Start the codebook at the k-means centres of the first batch of all ranks."""
        size = self.codebook_sizes[0]
        points = pick_rows(finite_rows(flat), size * POINTS_PER_CODE, seed=0)
        if len(points):
            self.codebook.copy_(kmeans(points, size, metric=self.metric))
            self.idle[len(points) :] = self.revive_after  # repeats of the codes before: never nearest
            self.started.fill_(True)

    def _observe(self, flat: Tensor, codes: Tensor, counted: Tensor) -> None:
        """Gather what one pass says of the codebook: ``flat [N, D]`` of ``codes [N]``, where ``counted [N]``."""
        if self._seen is None:
            self._seen = torch.zeros_like(self.usage)
        self._seen.index_add_(0, codes, counted.to(flat.dtype))
        self._vectors.append(flat)

    def _revive(self) -> None:
        """Restart dead codes at random vectors of this step's batch."""
        dead = (self.idle >= self.revive_after).nonzero()[:, 0]  # [number of dead]
        if not len(dead):
            return
        vectors = finite_rows(torch.cat([*self._vectors, self.codebook[:0]]))
        fresh = pick_rows(vectors, len(dead), seed=int(self.steps))
        dead = dead[: len(fresh)]  # the next step's batch is for the others
        self.codebook[dead] = fresh
        self.usage[dead] = 0
        self.idle[dead] = 0


class EMAVectorQuantizer(VectorQuantizer):
    """Nearest-neighbour quantization whose codebook follows moving averages (arXiv 1711.00937, appendix A.1).

    Each code is the mean ``m / N`` of moving averages of the vectors assigned to it and of their number. Since
    ``m = N e`` always holds, the state is the code e and its use N alone, and one step is::

        N' = N + w (n - N)        e' = e + w (s - n e) / N'        w = (1 - γ) / (1 - γ^t)

    with n vectors of sum s assigned at step t, the averages debiased by w as Adam's are. A code without vectors stays
    where it is, and nothing needs smoothing. With the cosine metric the averages are of vectors of length 1, and e is
    their mean as it is: shorter than 1, and brought to that length where it is used.

    The loss is the commitment term alone. Arguments and shapes are those of :class:`VectorQuantizer`.
    """

    _sums: Tensor | None = None  # of the vectors of each code since the last step, [K, D]

    def _own_codebook(self, codebook: Tensor) -> None:
        self.register_buffer("codebook", codebook)

    def _loss(self, z: Tensor, nearby: Tensor) -> Tensor:
        return self.commitment_cost * F.mse_loss(z, nearby.detach())

    def discard(self) -> None:
        """Forget what the forward passes since the last step saw."""
        super().discard()
        self._sums = None

    def _observe(self, flat: Tensor, codes: Tensor, counted: Tensor) -> None:
        super()._observe(flat, codes, counted)
        if self._sums is None:
            self._sums = torch.zeros_like(self.codebook)
        self._sums.index_add_(0, codes, flat.masked_fill(~counted[:, None], 0))

    def _learn(self, seen: Tensor, weight: Tensor) -> None:
        sums = self._sums if self._sums is not None else torch.zeros_like(self.codebook)
        sum_over_ranks(sums)
        after = self.usage.lerp(seen, weight).clamp_(min=torch.finfo(self.usage.dtype).tiny)
        drift = sums.addcmul_(seen[:, None], self.codebook, value=-1)
        self.codebook += drift.mul_((weight / after)[:, None])


def finite(vectors: Tensor) -> Tensor:
    """Which rows of ``vectors [N, D]`` are finite, bool ``[N]``: those whose sum is, in one pass over them."""
    return vectors.sum(1).isfinite()


def finite_rows(vectors: Tensor) -> Tensor:
    """The rows of ``vectors [N, D]`` that are finite."""
    return vectors[finite(vectors)]
