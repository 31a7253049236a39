"""Quantization by the nearest of K vectors: search, lookup and loss, whatever the codebook is learned by."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from stage1_vqvae.quantizers.base import Quantized, Quantizer
from stage1_vqvae.quantizers.estimators import ESTIMATORS, Estimator
from stage1_vqvae.quantizers.search import Metric, nearest, unit_length
from stage1_vqvae.quantizers.shapes import check_sizes, checked, embed, rows_of


class NearestNeighbour(Quantizer):
    """Each vector becomes the nearest of K vectors, and its code that one's index (arXiv 1711.00937, equation 1).

    A subclass gives the K vectors by :meth:`codewords`, and may start them at the first training batch in
    :meth:`_start` and gather what it learns from in :meth:`_observe`. The loss is that of equation 3,
    ``|sg[z] - e|² + β |z - sg[e]|²``, each a mean over all elements.

    Args:
        dim: D, channels of a vector.
        codebook_size: K, number of codes.
        commitment_cost: β, weight of the commitment term.
        gradient: How the decoder's gradient passes to the encoder: ``straight_through`` or ``rotation``.
        metric: What is near: ``euclidean`` distance or ``cosine`` of the angle.

    Raises:
        ValueError: If there is not one channel and one code at least, or no such gradient or metric.

    Shape: ``z [B, D, *spatial]`` to vectors of that shape and codes ``[B, *spatial]``.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        commitment_cost: float,
        gradient: Estimator = "straight_through",
        metric: Metric = "euclidean",
    ) -> None:
        super().__init__()
        check_sizes(dim, codebook_size)
        if metric not in get_args(Metric):
            raise ValueError(f"metric is {' or '.join(get_args(Metric))}, got {metric!r}")
        if gradient not in ESTIMATORS:
            raise ValueError(f"gradient is {' or '.join(ESTIMATORS)}, got {gradient!r}")
        self.dim = dim
        self.codebook_sizes = (codebook_size,)
        self.commitment_cost = commitment_cost
        self.gradient = gradient
        self.metric = metric
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self._started: bool | None = False  # the same on the host; None after loading, when the device has to be asked

    started: Tensor

    @abstractmethod
    def codewords(self) -> Tensor:
        """The K vectors ``[K, D]``, as search and lookup see them."""

    def forward(self, z: Tensor) -> Quantized:
        """Quantize ``z [B, D, *spatial]``.

        Raises:
            ValueError: If z has not D channels.
        """
        learns = self.training and not self.is_frozen
        with torch.autocast(z.device.type, enabled=False):
            z = self._measured(checked(z, self.dim))
            rows = rows_of(z.detach())  # [N, D]
            if learns and not self._has_started():
                self._start(rows)
            codewords = self.codewords()
            codes = nearest(rows, codewords.detach())
            if learns:
                self._observe(rows, codes)
            codes = codes.view(z.shape[0], *z.shape[2:])
            nearby = embed(codes, codewords)
            return Quantized(self._passed(z, nearby), codes, self._loss(z, nearby))

    def lookup(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, D, *spatial]`` of ``codes [B, *spatial]``."""
        return embed(codes, self.codewords())

    def _measured(self, vectors: Tensor) -> Tensor:
        """Vectors ``[·, D, …]`` as the metric sees them: of length 1 for the cosine."""
        return unit_length(vectors, 1) if self.metric == "cosine" else vectors

    def _passed(self, z: Tensor, nearby: Tensor) -> Tensor:
        """``nearby`` in value, with a gradient to z; both ``[B, D, *spatial]``."""
        return ESTIMATORS[self.gradient](z, nearby)

    def _loss(self, z: Tensor, nearby: Tensor) -> Tensor:
        return F.mse_loss(nearby, z.detach()) + self.commitment_cost * F.mse_loss(z, nearby.detach())

    def _start(self, rows: Tensor) -> None:
        """Start the codebook at ``rows [N, D]``, the first that are seen in training, and :meth:`_set_started`."""

    def _observe(self, rows: Tensor, codes: Tensor) -> None:
        """Gather what one training pass says of the codebook: ``rows [N, D]`` of ``codes [N]``."""

    def _has_started(self) -> bool:
        """Whether the codebook has its start."""
        if self._started is None:
            self._started = bool(self.started)
        return self._started

    def _set_started(self, started: bool) -> None:
        self.started.fill_(started)
        self._started = started

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._started = None
