"""One batch spread over many processes: sums and random rows of the whole of it, identical on every rank."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from stage1_vqvae.hashing import uniform_per_draw


class Sample(NamedTuple):
    """Random rows of a batch.

    Attributes:
        rows: ``[count, D]``; behind the first ``number`` of them are zeros.
        number: How many rows there are, an int64 scalar on the device.
    """

    rows: Tensor
    number: Tensor


def is_distributed() -> bool:
    """Whether there is more than one rank, asked when needed: modules are built before the process group is."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(*tensors: Tensor) -> None:
    """Replace each tensor, all of one precision and on one device, by its sum over ranks: one reduction for all."""
    if not is_distributed():
        return
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(joined)
    for tensor, total in zip(tensors, joined.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def number_on_all_ranks(rows: Tensor) -> int:
    """How many rows all ranks have together, on the host: on several ranks this waits for the others."""
    if not is_distributed():
        return len(rows)
    total = torch.full((1,), len(rows), device=rows.device)
    dist.all_reduce(total)
    return int(total)


def from_first_rank(*tensors: Tensor) -> None:
    """Replace each tensor by the first rank's: what each computed alone may differ in the last bits."""
    if is_distributed():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def place_on_every_rank(value: Tensor) -> Tensor:
    """``[ranks]`` with this rank's scalar in its place and zeros elsewhere: summed over ranks, everyone's."""
    if not is_distributed():
        return value[None]
    places = value.new_zeros(dist.get_world_size())
    places[dist.get_rank()] = value
    return places


def sample_rows(rows: Tensor, counted: Tensor, counts: Tensor, count: int, seed: Tensor | int) -> Sample:
    """Random rows of the joined batch, the ranks' counted rows in rank order, without replacement, in random order.

    The same on every rank, and the same however the batch is spread over ranks. Nothing is read back from the device:
    the joined batch is cut into as many strata of rows as are asked for, and one row of each is taken by a hash of the
    seed. That costs ``count`` rows, however many there are to choose from.

    Every rank must call this, also one with no rows.

    Args:
        rows: This rank's part, ``[n, D]``.
        counted: Which of its rows may be chosen, bool ``[n]``.
        counts: Number of counted rows of each rank, ``[ranks]``.
        count: How many rows to choose; fewer where there are not as many.
        seed: Chooses them; an int64 scalar or a number.
    """
    counts = counts.long()
    total, before = counts.sum(), counts[: dist.get_rank()].sum() if is_distributed() else 0
    number = total.clamp(max=count)
    slots = torch.arange(count, device=rows.device)
    strata = number.clamp(min=1)
    start, end = ((slot * total + strata - 1) // strata for slot in (slots, slots + 1))
    uniform = uniform_per_draw(slots + seed * 2**32, seed=0, count=3)
    chosen = (start + (uniform[:, 0] * (end - start)).long()).minimum(end - 1)
    turned = (uniform[0, 2] * total).long()  # strata differ in size by one row: turned around, every row is as likely
    chosen = (chosen + turned) % total.clamp(min=1)
    order = uniform[:, 1].masked_fill(slots >= number, 2).argsort(stable=True)  # what there is comes first
    own = chosen[order] - before  # by this rank's counted rows
    places = counted.cumsum(0)
    if len(rows) == 0:
        picked = rows.new_zeros(count, rows.shape[1])
    else:
        mine = (own >= 0) & (own < places[-1]) & (slots < number)
        where = torch.searchsorted(places, own + 1).clamp(max=len(rows) - 1)
        picked = torch.where(mine[:, None], rows[where], 0)
    sum_over_ranks(picked)
    return Sample(picked, number)
