"""Batches of a data set for an evaluation, without the worker processes that a training has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset


def batches(data: Dataset[Any], order: Iterable[list[int]], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Read a data set batch by batch.

    Args:
        data: A data set whose ``__getitems__`` gives a whole batch, as :class:`stage1_vqvae.data.dataset.ImageSplit`.
        order: The indices of each batch, for instance an :class:`pipelines.training.data.EvaluationOrder`.
        device: Where the tensors are wanted.

    Yields:
        A batch of the data set, its tensors by name.
    """
    for indices in order:
        batch = data.__getitems__(indices)  # type: ignore[attr-defined]
        yield {name: value.to(device) for name, value in batch.items()}
