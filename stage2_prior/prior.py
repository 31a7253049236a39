"""What every prior is: a distribution over codes ``[B, T]``, one code after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout

NO_LABEL = -1
"""The label of an image without one; a prior treats it as "any class"."""


class Incremental(Protocol):
    """A prior in the middle of drawing codes for a batch."""

    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        ...


class Autoregressive(nn.Module, ABC):
    """What is trained: a prior, or the part of one that predicts a single grid.

    Attributes:
        layout: Of the codes that it predicts.
    """

    layout: CodeLayout

    @abstractmethod
    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits ``[B, t, K]`` of its layout's t positions, teacher-forced with ``codes [B, T]`` of all grids."""

    def targets(self, codes: Tensor) -> Tensor:
        """The codes that it predicts, ``[B, t]`` of ``codes [B, T]`` of all grids."""
        return codes

    def nats(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Cross-entropy of every code that it predicts, in nats: float32 ``[B, t]``."""
        logits = self(codes, labels).float()
        return F.cross_entropy(logits.transpose(1, 2), self.targets(codes), reduction="none")


class Prior(Autoregressive):
    """An autoregressive distribution ``p(codes | label) = Π_t p(codes[t] | codes[:t], label)``.

    Args:
        layout: How the codes are laid out.
        num_classes: Number of classes; 0 for a prior without labels.

    A subclass computes :meth:`predict`. It may override :meth:`incremental` with something faster that gives
    the same logits.
    """

    def __init__(self, layout: CodeLayout, num_classes: int = 0) -> None:
        super().__init__()
        self.layout = layout
        self.num_classes = num_classes
        sizes = layout.codebook_size_at()[:, None]  # [T, 1]
        absent = torch.arange(layout.vocabulary) >= sizes  # [T, K]: codes that a smaller codebook lacks
        self.register_buffer("absent", absent, persistent=False)

    absent: Tensor

    @abstractmethod
    def predict(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Logits ``[B, T', K]`` for a prefix ``codes [B, T']``, ``T' <= T``, and class indices ``[B]``.

        Logits at t depend on ``codes[:, :t]`` and the label only. Labels are in ``[0, num_classes]``, where
        ``num_classes`` stands for "any class". Codes that a position's codebook lacks are masked by the caller.
        """

    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits ``[B, T, K]`` of every position of ``codes [B, T]``, teacher-forced.

        Args:
            codes: int64 ``[B, T']``; a prefix (``T' <= T``) gives that prefix's logits.
            labels: int64 ``[B]`` in ``[0, num_classes)``, -1 for "any class"; None is -1 for all.

        Raises:
            ValueError: If codes are longer than the layout or labels are not ``[B]``.
        """
        if codes.ndim != 2 or codes.shape[1] > self.layout.length:
            raise ValueError(f"codes [B, T], T at most {self.layout.length}, expected, got {list(codes.shape)}")
        logits = self.predict(codes, self.class_index(labels, len(codes), codes.device))
        return logits.masked_fill(self.absent[: codes.shape[1]], -torch.inf)

    def class_index(self, labels: Tensor | None, batch: int, device: torch.device) -> Tensor:
        """Labels with "any class" as ``num_classes``: int64 ``[B]``; see :func:`class_index`."""
        return class_index(labels, self.num_classes, batch, device)

    def log_prob(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Log-likelihood of each sequence of ``codes [B, T]``, in nats: float32 ``[B]``."""
        return -self.nats(codes, labels).sum(1)

    def level(self, grid: int) -> Autoregressive:
        """One grid's part of the prior, to be trained apart from the others.

        Raises:
            ValueError: If there is no such grid, or the prior has no parts.
        """
        raise ValueError(
            f"a {type(self).__name__} has no part for grid {grid} alone: train it whole, or use a PixelCNN"
        )

    def incremental(self, labels: Tensor) -> Incremental:
        """The prior at the start of drawing codes for ``labels [B]``; see :class:`Incremental`."""
        return FullRecompute(self, labels)

    def frozen(self) -> AbstractContextManager[None]:
        """The prior's weights do not change inside, so its incremental forms may share what they prepare of them."""
        return nullcontext()


def class_index(labels: Tensor | None, num_classes: int, batch: int, device: torch.device) -> Tensor:
    """Labels with "any class" (-1, None) as ``num_classes``, the row of its embedding: int64 ``[B]``."""
    if labels is None:
        return torch.full((batch,), num_classes, device=device)
    if labels.shape != (batch,):
        raise ValueError(f"labels of shape [{batch}] expected, got {list(labels.shape)}")
    return torch.where(labels == NO_LABEL, num_classes, labels)


class FullRecompute:
    """The plain incremental form: the whole prefix goes through the prior for every new code."""

    def __init__(self, prior: Prior, labels: Tensor) -> None:
        self.prior = prior
        self.labels = labels
        self.prefix = labels.new_empty(len(labels), 0)  # [B, t]

    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        if codes is not None:
            self.prefix = torch.cat([self.prefix, codes[:, None]], dim=1)
        # The last position's own code is not seen by its logits: any value serves.
        padded = F.pad(self.prefix, (0, 1))
        return self.prior(padded, self.labels)[:, -1]
