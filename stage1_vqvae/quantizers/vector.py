"""Vector quantization by nearest neighbour (arXiv 1711.00937), with both ways of learning the codebook."""

from __future__ import annotations

import math
import warnings
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.quantizers.estimators import Estimator
from stage1_vqvae.quantizers.kmeans import kmeans
from stage1_vqvae.quantizers.nearest_neighbour import NearestNeighbour
from stage1_vqvae.quantizers.ranks import (
    from_first_rank,
    number_on_all_ranks,
    place_on_every_rank,
    sample_rows,
    sum_over_ranks,
)
from stage1_vqvae.quantizers.search import Metric
from stage1_vqvae.quantizers.shapes import finite

POINTS_PER_CODE = 32
"""Encoder outputs per code that the k-means start looks at, at most."""
CANDIDATES = 1024
"""Codes that are revived in one step, at most: a fixed number, so that nothing waits for how many are dead."""
ROWS_KEPT = 2**20
"""Vectors kept between steps for codes to be revived at, at most, if one pass has not more."""
PASSES_WITHOUT_STEP = 100
"""Training passes after which a missing step is warned of."""

Init = Literal["kmeans", "random"]
"""Names of the starts of a codebook."""


class VectorQuantizer(NearestNeighbour):
    """Nearest-neighbour quantization with a codebook learned by gradient (arXiv 1711.00937, equation 3).

    The loss is ``|sg[z] - e|² + β |z - sg[e]|²``, each a mean over all elements: the first moves the codebook to
    the encoder's outputs, the second commits the encoder to the codebook.

    With the cosine metric (arXiv 2110.04627, section 3.2) z and e stand for the vectors divided by their lengths,
    everywhere: in search, lookup and loss. That paper's projection to few dimensions is a small ``dim`` where a
    convolution ends the encoder and another begins the decoder, and :class:`~stage1_vqvae.quantizers.Projected`
    elsewhere.

    A code that got none of the last ``revive_after`` times K vectors, of which an even share would have been that many,
    is dead and restarts at a random vector of the batch, as a code that was never used. Vectors that are not finite
    count nowhere. All this happens in :meth:`step`, which belongs after every optimiser step; outside of this project's
    pipeline ``quantizer.step_after(optimizer)`` sees to it.

    Args:
        dim: D, channels of a vector.
        codebook_size: K, number of codes.
        commitment_cost: β, weight of the commitment term; the paper finds 0.1 to 2.0 to work alike.
        decay: γ of the moving average of each code's use.
        revive_after: Vectors per code that pass before an unused one is revived; 0 never revives.
        metric: What is near: ``euclidean`` distance or ``cosine`` of the angle.
        gradient: How the decoder's gradient passes to the encoder: ``straight_through`` or ``rotation``.
        init: Where the codebook starts: ``kmeans`` centres of the first training batch, which replace whatever stood
            there; ``random`` vectors of length about 1; or a tensor ``[K, D]``.

    Raises:
        ValueError: If a value is out of range.

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
        init: Init | Tensor = "kmeans",
    ) -> None:
        super().__init__(dim, codebook_size, commitment_cost, gradient, metric)
        if not 0 <= decay < 1:
            raise ValueError(f"decay is in [0, 1), got {decay}")
        if revive_after < 0:
            raise ValueError(f"revive_after is at least 0, got {revive_after}")
        if not isinstance(init, Tensor) and init not in get_args(Init):
            raise ValueError(f"init is {' or '.join(get_args(Init))} or a tensor [K, D], got {init!r}")
        self.decay = decay
        self.revive_after = revive_after
        self.init = init
        # Float32 by name: a training in lower precision changes the default.
        self._own_codebook(torch.empty(codebook_size, dim, dtype=torch.float32))
        use = torch.zeros(codebook_size, dtype=torch.float32)
        self.register_buffer("usage", use)  # moving average of vectors per code and step
        self.register_buffer("idle", use.clone())  # vectors, over K, since the last that a code got
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # What the forward passes since the last step saw. Plain attributes, not buffers: no part of the state, and
        # nothing that DistributedDataParallel may overwrite with the first rank's.
        self._gathered: list[Tensor] = []
        self._kept: list[tuple[Tensor, Tensor]] = []  # rows [N, D] of passes, and which of them count [N]
        self._passes = 0
        self.reset_parameters()

    codebook: Tensor
    usage: Tensor
    idle: Tensor
    steps: Tensor

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start the codebook anew as ``init`` says, and forget the use of its codes."""
        if isinstance(self.init, Tensor):
            self.set_codebook(self.init)
            return
        self.set_codebook(torch.randn_like(self.codebook) / self.dim**0.5)
        self._set_started(self.init != "kmeans")

    @torch.no_grad()
    def set_codebook(self, codebook: Tensor) -> None:
        """Continue from ``codebook [K, D]``, with the use of its codes not yet counted and no other start.

        Raises:
            ValueError: If it has another shape.
        """
        if codebook.shape != self.codebook.shape:
            raise ValueError(f"a codebook {list(self.codebook.shape)} expected, got {list(codebook.shape)}")
        self.codebook.copy_(codebook)
        for statistic in (self.usage, self.idle, self.steps):
            statistic.zero_()
        self._set_started(True)
        self.discard()

    def codewords(self) -> Tensor:
        """The codebook ``[K, D]``, with vectors of length 1 for the cosine metric."""
        return self._measured(self.codebook)

    @torch.no_grad()
    def step(self) -> None:
        """Update the use of each code and revive the dead. To be called after every optimiser step, on all ranks."""
        if self.is_frozen or not self._has_started():
            return
        gathered = self._gathered or self._nothing_gathered()
        counts = place_on_every_rank(self._counted().sum().to(self.usage.dtype))  # rows that a code may be revived at
        sum_over_ranks(*gathered, counts)
        seen, *sums = (each[:-1] for each in gathered)
        self.steps += 1
        # Weights of a debiased moving average: 1, 1/2, 1/3, … at first, 1 - γ in the long run. A start at random
        # encoder outputs is forgotten within a few steps.
        log_decay = math.log(self.decay) if self.decay else -math.inf
        weight = (1 - self.decay) / -torch.expm1(self.steps.to(self.usage.dtype) * log_decay)
        self._learn(seen, sums, weight)
        self.usage.lerp_(seen, weight)
        self.idle.add_(seen.mean()).masked_fill_(seen > 0, 0)
        if self.revive_after > 0:
            self._revive(counts)
        self.discard()

    def discard(self) -> None:
        """Forget what the forward passes since the last step saw."""
        self._gathered = []
        self._kept = []
        self._passes = 0

    def _own_codebook(self, codebook: Tensor) -> None:
        self.codebook = nn.Parameter(codebook)

    def _learn(self, seen: Tensor, sums: list[Tensor], weight: Tensor) -> None:
        """Move the codebook by what all ranks saw, ``seen [K]`` vectors per code; the gradient already did."""

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        """Start the codebook at the k-means centres of the first batch of all ranks."""
        size, counted = self.codebook_sizes[0], finite(rows)
        counts = place_on_every_rank(counted.sum())
        sum_over_ranks(counts)
        points = min(size * POINTS_PER_CODE, number_on_all_ranks(rows))
        sample = sample_rows(rows, counted, counts, points, seed=0)
        centres = kmeans(*sample, size, metric=self.metric)
        self.codebook.copy_(torch.where(sample.number > 0, centres, self.codebook))
        from_first_rank(self.codebook)
        # Codes beyond the number of points repeat those before and are never nearest: the next batch is for them.
        self.idle.masked_fill_(torch.arange(size, device=rows.device) >= sample.number, self.revive_after)
        self._set_started(True)

    def _observe(self, rows: Tensor, codes: Tensor) -> None:
        counted = finite(rows)
        if not self._gathered:
            self._gathered = self._nothing_gathered()
        # What does not count goes to a place of its own, behind those of the codes.
        self._gather(rows, torch.where(counted, codes, self.codebook_sizes[0]))
        if self.revive_after > 0:
            self._kept.append((rows, counted))
            while len(self._kept) > 1 and sum(len(kept) for kept, _ in self._kept) > ROWS_KEPT:
                del self._kept[0]
        self._passes += 1
        if self._passes == PASSES_WITHOUT_STEP:
            warnings.warn(
                f"{type(self).__name__}: {PASSES_WITHOUT_STEP} training passes without step(), which the codebook is "
                "learned and revived by: call step() after each optimiser step, or step_after(optimizer) once; "
                "freeze() is for a codebook that stays",
                stacklevel=2,
            )

    def _nothing_gathered(self) -> list[Tensor]:
        """What passes are gathered in: vectors per code, ``[K + 1]``."""
        return [self.usage.new_zeros(len(self.usage) + 1)]

    def _gather(self, rows: Tensor, places: Tensor) -> None:
        self._gathered[0].index_add_(0, places, rows.new_ones(len(rows)))

    def _counted(self) -> Tensor:
        """Which of the kept rows count, bool ``[N]``."""
        return torch.cat([self.started.new_zeros(0), *(counted for _, counted in self._kept)])

    def _revive(self, counts: Tensor) -> None:
        """Restart dead codes at random vectors of this step's batch, of which each rank has ``counts [ranks]``."""
        rows = self._kept[0][0] if len(self._kept) == 1 else torch.cat([self.codebook[:0], *(r for r, _ in self._kept)])
        count = min(CANDIDATES, len(self.idle))
        sample = sample_rows(rows, self._counted(), counts, count, seed=self.steps)
        dead = (self.idle >= self.revive_after) & (self.steps > 1)  # the codes started at the first step's vectors
        turn = dead.cumsum(0) - 1
        revived = dead & (turn < sample.number)  # the next step's batch is for the others
        fresh = sample.rows[turn.clamp(0, count - 1)]
        self.codebook.copy_(torch.where(revived[:, None], fresh, self.codebook))
        self.usage.masked_fill_(revived, 0)
        self.idle.masked_fill_(revived, 0)


class EMAVectorQuantizer(VectorQuantizer):
    """Nearest-neighbour quantization whose codebook follows moving averages (arXiv 1711.00937, appendix A.1).

    Each code is the mean ``m / N`` of moving averages of the vectors assigned to it and of their number. Since
    ``m = N e`` always holds, the state is the code e and its use N alone, and one step is::

        N' = N + w (n - N)        e' = e + w (s - n e) / N'        w = (1 - γ) / (1 - γ^t)

    with n vectors of sum s assigned at step t, the averages debiased by w as Adam's are. A code without vectors stays
    where it is, and nothing needs smoothing. With the cosine metric the averages are of vectors of length 1, and e is
    their mean as it is: shorter than 1, and brought to that length where it is used. On CUDA the sums are the same to
    the bit in every run under ``torch.use_deterministic_algorithms(True)``; equal on all ranks they always are.

    The loss is the commitment term alone. Arguments and shapes are those of :class:`VectorQuantizer`.
    """

    def _own_codebook(self, codebook: Tensor) -> None:
        self.register_buffer("codebook", codebook)

    def _loss(self, z: Tensor, nearby: Tensor) -> Tensor:
        return self.commitment_cost * F.mse_loss(z, nearby.detach())

    def _nothing_gathered(self) -> list[Tensor]:
        """Vectors per code ``[K + 1]``, and their sums ``[K + 1, D]``."""
        return [*super()._nothing_gathered(), self.codebook.new_zeros(len(self.codebook) + 1, self.dim)]

    def _gather(self, rows: Tensor, places: Tensor) -> None:
        super()._gather(rows, places)
        self._gathered[1].index_add_(0, places, rows)

    def _learn(self, seen: Tensor, sums: list[Tensor], weight: Tensor) -> None:
        after = self.usage.lerp(seen, weight).clamp_(min=torch.finfo(self.usage.dtype).tiny)
        drift = sums[0].addcmul(seen[:, None], self.codebook, value=-1)
        self.codebook += drift.mul_((weight / after)[:, None])
