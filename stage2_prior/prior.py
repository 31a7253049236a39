"""The interface of every prior: a distribution over codes ``[B, T]``, one code after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage1_vqvae.codes import CodeLayout

NO_LABEL = -1
"""The label of an image without one; a prior takes it for the null class, with which it is unconditional."""


class Incremental(Protocol):
    """A prior in the middle of drawing codes for a batch."""

    def next_logits(self, codes: Tensor | None) -> Tensor:
        """Logits ``[B, K]`` of the next position; ``codes [B]`` are those of the one before, None at first."""
        ...

    def prefill(self, codes: Tensor) -> None:
        """Take the first codes ``[B, t]`` at once, at the start.

        After it, ``next_logits(codes[:, -1])`` gives the logits of position t.
        """
        ...

    def select(self, rows: Tensor) -> None:
        """Go on in row i as row ``rows[i]`` would have, int64 ``[B]``."""
        ...


class Autoregressive(nn.Module, ABC):
    """What stage two trains: a prior, or the part of one that predicts a single grid.

    Attributes:
        layout: Of the codes that it predicts.
        any_order: Whether it predicts in other orders than raster order, see :meth:`Prior.predict_in_order`.
    """

    layout: CodeLayout
    any_order: ClassVar[bool] = False

    @abstractmethod
    def forward(self, codes: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits ``[B, t, K]`` of its layout's t positions, teacher-forced with ``codes [B, T]`` of all grids."""

    def targets(self, codes: Tensor) -> Tensor:
        """The codes that it predicts, ``[B, t]`` of ``codes [B, T]`` of all grids."""
        return codes

    def sharding_units(self) -> list[nn.Module]:
        """The layers that FSDP gathers one at a time; the rest of the module is one unit."""
        return []

    def nats(self, codes: Tensor, labels: Tensor | None = None, order: Tensor | None = None) -> Tensor:
        """Cross-entropy of every code that it predicts, in nats: float32 ``[B, t]``, each at its position.

        Args:
            codes: int64 ``[B, T]`` of all grids.
            labels: int64 ``[B]``, -1 for the null class; None is -1 for all.
            order: As for :meth:`Prior.forward`; None is raster order.
        """
        targets = self.targets(codes)
        if order is None:
            return _cross_entropy(self(codes, labels).float(), targets)
        nats = _cross_entropy(self(codes, labels, order).float(), targets.gather(1, order))
        return torch.zeros_like(nats).scatter(1, order, nats)


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

    @property
    def device(self) -> torch.device:
        """Where the prior is."""
        return self.absent.device

    @abstractmethod
    def predict(self, codes: Tensor, labels: Tensor) -> Tensor:
        """Logits ``[B, T', K]`` for a prefix ``codes [B, T']``, ``T' <= T``, and class indices ``[B]``.

        Logits at t depend on ``codes[:, :t]`` and the label only. Labels are in ``[0, num_classes]``, where
        ``num_classes`` is the null class. Codes that a position's codebook lacks are masked by the caller.
        """

    def predict_in_order(self, codes: Tensor, labels: Tensor, order: Tensor) -> Tensor:
        """Logits ``[B, T, K]`` of ``codes [B, T]`` in an order of each row's own, for class indices ``[B]``.

        Those at t are of position ``order[:, t]`` and depend on the codes at the positions ``order[:, :t]`` and the
        label only. A prior that can sets :attr:`any_order`.

        Args:
            codes: int64 ``[B, T]``.
            labels: As for :meth:`predict`.
            order: Positions, int64 ``[B, T]``: a permutation in every row, under which each grid keeps its place.

        Raises:
            ValueError: If the prior predicts in raster order alone.
        """
        raise ValueError(f"a {type(self).__name__} predicts codes in raster order alone: use a transformer")

    def forward(self, codes: Tensor, labels: Tensor | None = None, order: Tensor | None = None) -> Tensor:
        """Logits ``[B, T, K]`` of every position of ``codes [B, T]``, teacher-forced.

        Args:
            codes: int64 ``[B, T']``; a prefix (``T' <= T``) gives that prefix's logits.
            labels: int64 ``[B]`` in ``[0, num_classes)``, -1 for the null class; None is -1 for all.
            order: int64 ``[B, T]`` for logits in another order than raster order, see :meth:`predict_in_order`.

        Raises:
            ValueError: If codes are longer than the layout or labels are not ``[B]``.
        """
        if codes.ndim != 2 or codes.shape[1] > self.layout.length:
            raise ValueError(f"codes [B, T], T at most {self.layout.length}, expected, got {list(codes.shape)}")
        index = self.class_index(labels, len(codes), codes.device)
        logits = self.predict(codes, index) if order is None else self.predict_in_order(codes, index, order)
        if len(set(self.layout.codebook_sizes)) == 1:  # no code is absent: a way through all logits is saved
            return logits
        return logits.masked_fill(self.absent[: codes.shape[1]], -torch.inf)

    def class_index(self, labels: Tensor | None, batch: int, device: torch.device) -> Tensor:
        """Labels as class indices, int64 ``[B]``; see :func:`class_index`."""
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

    @torch.no_grad()
    def trial_logits(self, labels: Tensor, codes: Tensor) -> Tensor | None:
        """Logits ``[P, B, K]`` of a few positions, computed as :meth:`incremental` does; None if that is not known.

        Sampling finds out with it for how many rows the prior rounds alike, see
        :mod:`stage2_prior.sampling.batch_invariance`. What an incremental form has kept by a position may be made up.

        Args:
            labels: int64 ``[B]``, -1 for the null class.
            codes: int64 ``[B, T]``.
        """
        return None

    def frozen(self) -> AbstractContextManager[None]:
        """A promise that the weights do not change inside: incremental forms may share what they prepare of them."""
        return nullcontext()


def check_labels(labels: Tensor, num_classes: int, batch: int) -> None:
    """Raise ValueError unless labels are int64 ``[batch]`` in ``[-1, num_classes)``."""
    if labels.dtype != torch.int64 or labels.shape != (batch,):
        raise ValueError(f"labels are int64 [{batch}], got {labels.dtype} {list(labels.shape)}")
    if batch and (labels.min() < NO_LABEL or labels.max() >= num_classes):
        expected = f"0 to {num_classes - 1}, or -1 for none" if num_classes else "-1 for a prior without classes"
        raise ValueError(f"labels are {expected}, got {int(labels.min())} to {int(labels.max())}")


def class_index(labels: Tensor | None, num_classes: int, batch: int, device: torch.device) -> Tensor:
    """Rows of the embedding of classes, int64 ``[B]``: the label, or ``num_classes``, the null class, for -1 and None.

    Args:
        labels: int64 ``[B]``, -1 for the null class; None is -1 for all.
        num_classes: Number of classes.
        batch: B.
        device: Where labels of None are made.

    Raises:
        ValueError: If the labels are not ``[B]``.
    """
    if labels is None:
        return torch.full((batch,), num_classes, device=device)
    if labels.shape != (batch,):
        raise ValueError(f"labels of shape [{batch}] expected, got {list(labels.shape)}")
    return torch.where(labels == NO_LABEL, num_classes, labels)


class FullRecompute:
    """The plain incremental form: the whole prefix goes through the prior for every new code.

    Args:
        prior: Any prior, in eval mode.
        labels: int64 ``[B]``, -1 for the null class.
    """

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

    def prefill(self, codes: Tensor) -> None:
        """Take the first codes ``[B, t]``; the next logits, given the last of them, are those of position t."""
        self.prefix = codes[:, :-1]

    def select(self, rows: Tensor) -> None:
        """Go on in row i as row ``rows[i]`` would have, int64 ``[B]``."""
        self.prefix, self.labels = self.prefix[rows], self.labels[rows]


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats ``[B, t]`` of targets ``[B, t]`` under ``logits [B, t, K]``, by the kernel that is fast for their layout."""
    if logits.is_contiguous():
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
