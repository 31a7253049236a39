"""What a batch of a user's DataLoader holds for a prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stage1_vqvae.codes import codes_of
from stage2_prior.prior import NO_LABEL, Autoregressive, Prior, check_labels


def training_batch(batch: Any, model: Autoregressive) -> dict[str, Tensor]:
    """A batch of any DataLoader as a prior trains on it: ``codes`` int64 ``[B, T]`` and ``labels`` int64 ``[B]``.

    Args:
        batch: Codes, a pair of codes and labels, or a mapping with the keys ``codes`` and, perhaps, ``labels``.
        model: What is trained.

    Raises:
        ValueError: If there are no codes, or codes or labels are not of the model.
    """
    codes, labels = _parted(batch)
    # The part of one grid is shown the codes of all grids, whose layout it does not know.
    found = codes_of(codes, model.layout) if isinstance(model, Prior) else torch.as_tensor(codes).to(torch.int64)
    if labels is None:
        return {"codes": found, "labels": torch.full((len(found),), NO_LABEL)}
    numbers = torch.as_tensor(labels)
    if not numbers.is_floating_point():
        numbers = numbers.to(torch.int64)
    if isinstance(model, Prior):
        check_labels(numbers, model.num_classes, len(found))
    return {"codes": found, "labels": numbers}


def _parted(batch: Any) -> tuple[Any, Any]:
    """Codes and labels of a batch; None for labels that it has not."""
    if isinstance(batch, Mapping):
        if "codes" not in batch:
            raise ValueError(f"a batch with the key codes, and perhaps labels, expected, got {list(batch)}")
        return batch["codes"], batch.get("labels")
    if isinstance(batch, tuple | list):
        if not 1 <= len(batch) <= 2:
            raise ValueError(f"a batch of codes, or of codes and labels, expected, got {len(batch)} things")
        return batch[0], batch[1] if len(batch) == 2 else None
    return batch, None
