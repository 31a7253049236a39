"""Micro-batches: what is computed for an image does not depend on what is computed beside it.

The last bits of a matrix product may depend on the number of its rows, those of attention on the number of threads; and
one bit is enough to turn a code into another, and with it all codes after. So models are given micro-batches of a fixed
number of rows on one thread, and image i stands in row ``i % size``, whichever images are asked for. Several cores
compute several micro-batches at a time.

Where a machine rounds alike for another number of rows, which is found out by trying (:func:`is_row_invariant`), that
number is used if it is faster: the images are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from stage2_prior.prior import Prior

BASE = 16
"""Images in a micro-batch on a CPU, where other numbers of rows may round differently."""

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Images in a micro-batch on a CPU, where these round like :data:`BASE` rows."""

LARGEST = 256
"""Images in a micro-batch at most."""

CPU_CODES, GPU_CODES = 2**14, 2**16
"""Codes of a micro-batch at most, if it has more than :data:`BASE` images.

Of a transformer of 12 layers and width 768, none of whose heads share keys and values, 2^16 codes take 5 GB in float32.
"""


Item = TypeVar("Item")
Result = TypeVar("Result")


class MicroBatch(NamedTuple):
    """Rows that are computed together."""

    rows: list[int]
    """Numbers of the rows asked for."""
    slots: list[int]
    """Where each of them stands in the micro-batch; the other rows of the micro-batch repeat one of them."""


def microbatches(indices: Sequence[int], size: int) -> list[MicroBatch]:
    """Micro-batches of rows; a row with index i stands in row ``i % size`` of micro-batch ``i // size``."""
    found: dict[int, MicroBatch] = {}
    for row, index in enumerate(indices):
        batch = found.setdefault(index // size, MicroBatch([], []))
        batch.rows.append(row)
        batch.slots.append(index % size)
    return list(found.values())


def in_microbatches(
    compute: Callable[..., Sequence[Tensor]],
    indices: Sequence[int],
    size: int,
    device: torch.device,
    *rows: Tensor,
    progress: Callable[[int], None] = lambda images: None,
) -> list[Tensor]:
    """``compute(microbatch, *rows)``, for micro-batches of the rows.

    Args:
        compute: Takes a :class:`MicroBatch` and its part ``[size, ...]`` of each of ``rows``, and returns tensors
            ``[size, ...]``, without gradients. Called by several threads at a time on a CPU.
        indices: Index of each row, of its image, say; see :func:`microbatches`.
        size: Rows of a micro-batch.
        device: What ``compute`` computes on, to which it moves its rows.
        rows: Tensors ``[B, ...]`` on the CPU, so that their values are known without waiting for the device.
        progress: Called after every micro-batch with the number of images in it.

    Returns:
        Tensors ``[B, ...]``, as many as ``compute`` returns.
    """
    batches = microbatches(indices, size)

    def alone(batch: MicroBatch) -> list[Tensor]:
        order = torch.full((size,), batch.rows[0])
        order[batch.slots] = torch.tensor(batch.rows)
        slots = torch.tensor(batch.slots)
        with torch.no_grad():
            results = compute(batch, *(each[order] for each in rows))
        return [result[slots.to(result.device, non_blocking=True)] for result in results]

    finished = _on_threads(alone, batches) if device.type == "cpu" else map(alone, batches)
    parts = []
    for batch, results in zip(batches, finished, strict=True):
        parts.append(results)
        progress(len(batch.rows))
    order = torch.tensor([row for batch in batches for row in batch.rows]).argsort()
    return [torch.cat(part)[order.to(part[0].device, non_blocking=True)] for part in zip(*parts, strict=True)]


def _on_threads(task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """``task`` of each item in order; as many at a time as PyTorch has threads, each of them on one thread."""
    with ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(task, items)


class Plan(NamedTuple):
    """How images are shared out among micro-batches."""

    size: int
    """Images in a micro-batch."""
    indices: Sequence[int]
    """Of the images, see :func:`microbatches`."""


def plan(
    prior: Prior,
    images: Sequence[int],
    candidates: int = 1,
    guided: bool = False,
    states: int = 1,
    size: int | None = None,
) -> Plan:
    """The fastest micro-batches that this machine computes the same images in as in those of the base size.

    Args:
        prior: Any prior; one without :meth:`~stage2_prior.prior.Prior.trial_logits` gets the base size.
        images: Numbers of the images.
        candidates: Rows of each image.
        guided: Whether each row is computed with and without its label.
        states: Incremental states that each row has at a time.
        size: Images in a micro-batch, if the user chose it.
    """
    if size is not None:
        return Plan(size, images)
    if prior.device.type != "cpu":
        largest = min(max(GPU_CODES // prior.layout.length // BASE * BASE, BASE), LARGEST)
        return Plan(max(largest // states, BASE) // candidates or 1, images)
    base, each = max(BASE // candidates, 1), candidates * (2 if guided else 1)
    at_most = max(CPU_CODES // (prior.layout.length * candidates * states), base)
    wanted = -(-len(images) // torch.get_num_threads())
    fitting = [size for size in SIZES if size <= at_most]
    enough, fewer = [s for s in fitting if s >= wanted], [s for s in fitting if base < s < wanted]
    for candidate in (*enough, *reversed(fewer)):
        if candidate == base:
            break
        if is_row_invariant(prior, candidate * each) and is_row_invariant(prior, base * each):
            return Plan(candidate, range(len(images)))
    return Plan(base, images)


_invariant: WeakKeyDictionary[Prior, dict[int, bool]] = WeakKeyDictionary()


def is_row_invariant(prior: Prior, rows: int) -> bool:
    """Whether a prior's incremental form rounds alike for so many rows and for :data:`BASE` rows, on this CPU.

    It is tried once, at a few positions, with the first and the last of the rows.

    Args:
        prior: On the CPU, in eval mode.
        rows: Number of rows that are computed together.
    """
    known = _invariant.setdefault(prior, {BASE: True})
    if rows not in known:
        (known[rows],) = _on_threads(lambda rows: _rounds_alike(prior, rows), [rows])
    return known[rows]


def _rounds_alike(prior: Prior, rows: int) -> bool:
    most = max(rows, BASE)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(prior.num_classes + 1, (most,), generator=generator) - 1
    codes = (torch.rand(most, prior.layout.length, generator=generator) * prior.layout.codebook_size_at()).long()

    def ends(count: int) -> list[Tensor] | None:
        """Logits of the first and of the last rows, computed ``count`` at a time."""
        parts = [slice(0, count), *([slice(most - count, most)] if count < most else [])]
        found = [prior.trial_logits(labels[part], codes[part]) for part in parts]
        shared = min(rows, BASE)
        return None if found[0] is None or found[-1] is None else [found[0][:, :shared], found[-1][:, -shared:]]

    found, expected = ends(rows), ends(BASE)
    return found is not None and expected is not None and all(map(torch.equal, found, expected))
