"""One batch spread over many processes: sums and rows of the whole of it, identical on every rank."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether there is more than one rank, asked when needed: modules are built before the process group is."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over ranks."""
    if is_distributed():
        for tensor in tensors:
            dist.all_reduce(tensor)


def pick_rows(rows: Tensor, count: int, seed: int) -> Tensor:
    """Random rows of the joined batch (the ranks' rows in rank order): the same on every rank, however it is split.

    Every rank must call this, also one with no rows.

    Args:
        rows: This rank's part, ``[n, D]``.
        count: How many rows to pick.
        seed: Chooses the rows, together with the joined batch's size.

    Returns:
        ``[min(count, N), D]`` for a joined batch of N rows, without replacement.
    """
    before, total = _place(len(rows), rows.device)
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(total, generator=generator)[:count].to(rows.device)  # positions in the joined batch
    mine = (chosen >= before) & (chosen < before + len(rows))
    picked = rows.new_zeros(len(chosen), rows.shape[1])
    picked[mine] = rows[chosen[mine] - before]
    sum_over_ranks(picked)
    return picked


def _place(n: int, device: torch.device) -> tuple[int, int]:
    """Rows on the ranks before this one, and on all ranks."""
    if not is_distributed():
        return 0, n
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
    counts[dist.get_rank()] = n
    dist.all_reduce(counts)
    return int(counts[: dist.get_rank()].sum()), int(counts.sum())
