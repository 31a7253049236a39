"""Which images train and which are held back for validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stage1_vqvae.data.dataset import ImageSet, ImageSplit


@dataclass(frozen=True)
class Division:
    """A set divided into images to learn from and images that are held back.

    Attributes:
        train: To learn from.
        validation: Held back.
        how: Where the validation split comes from, in a few words.
        notes: What a person should know of it, a sentence each.
    """

    train: ImageSplit
    validation: ImageSplit
    how: str
    notes: tuple[str, ...] = ()


def divide(
    images: ImageSet, origin: dict[str, Any], fraction: float, holdout: Literal["content", "position"]
) -> Division:
    """Divides a set, whose own validation split is kept where it has one.

    Args:
        images: The set.
        origin: Plain values for the descriptions of both splits.
        fraction: Part to hold back where there is no validation split.
        holdout: Whether that is chosen by the images' content or by their position. With ``content``, images of a
            validation split that are exact copies of training images are left out; with ``position``, as in version
            0.1.0, they stay.

    Raises:
        ValueError: If one of the two would be empty.
    """
    train = images.splits["train"]
    notes: tuple[str, ...] = ()
    how = f"held back by {holdout}"
    if "validation" in images.splits:
        how = "a split of its own"
        validation = images.splits["validation"]
        held = np.zeros(len(train.labels), dtype=bool)
        kept = np.ones(len(validation.labels), dtype=bool)
        if holdout == "content":
            kept = ~among(validation.digests, train.digests)
        if not kept.any():
            raise ValueError(f"{origin['source']}: all images of the validation split are in the training split too")
        if copies := int((~kept).sum()):
            notes = (f"{copies} images of the validation split are copies of training images and are left out",)
        validation_rows = np.flatnonzero(kept)
    else:
        validation = train
        try:
            if holdout == "content":
                digests = train.digests if train.files is None else shared_digests(train.digests, train.files)
                held = hold_out_by_content(train.labels, digests, fraction)
            else:
                held = hold_out_by_position(train.labels, fraction)
        except ValueError as error:
            raise ValueError(f"{origin['source']}: {error}") from error
        validation_rows = np.flatnonzero(held)
    return Division(
        ImageSplit(train, np.flatnonzero(~held), {**origin, "split": "train"}),
        ImageSplit(validation, validation_rows, {**origin, "split": "validation"}),
        how,
        notes,
    )


def hold_out_by_content(labels: NDArray[np.int64], digests: NDArray[np.uint8], fraction: float) -> NDArray[np.bool_]:
    """Chooses images by their content alone, so that adding or removing images moves no other.

    An image is held back if its digest, read as a number in [0, 1), lies below the fraction; so exact copies always
    stand on one side. Of a class that would keep no training image, the image with the largest digest trains; it is
    the only one that can move later, when its class grows. One image at least is held back.

    Args:
        labels: int64 ``[N]``; -1 is a class like the others.
        digests: uint8 ``[N, 32]``, a SHA-256 for each image.
        fraction: Part to hold back, between 0 and 1. The number of images varies about ``fraction * N`` as chance
            would have it.

    Returns:
        bool ``[N]``, true for images that are held back.

    Raises:
        ValueError: If there are fewer than two different images.
    """
    ranks = np.ascontiguousarray(digests[:, :8]).view(">u8")[:, 0].astype(np.uint64)
    if len(np.unique(ranks)) < 2:
        raise ValueError("at least two different images are expected, one to train on and one to hold back")
    threshold = np.uint64(min(int(fraction * 2**64), 2**64 - 1))
    _, classes = np.unique(labels, return_inverse=True)
    last = np.zeros(classes.max() + 1, dtype=np.uint64)
    np.maximum.at(last, classes, ranks)
    # Classes whose last image is held back would be held back whole.
    held = (ranks < threshold) & ~np.isin(ranks, last[last < threshold])
    if not held.any():
        spare = ranks[~np.isin(ranks, last)]
        held = ranks == (spare if len(spare) else ranks).min()
    return held


def shared_digests(digests: NDArray[np.uint8], files: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Gives images that have to stand on one side one digest, the least of theirs.

    Args:
        digests: uint8 ``[N, 32]``, a SHA-256 for each image; exact copies stand together.
        files: int64 ``[N]``, the file that each image is a frame of; frames of one file stand together.

    Returns:
        uint8 ``[N, 32]``.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, contents = np.unique(digests, axis=0, return_inverse=True)  # in the order of the digests
    _, numbers = np.unique(files, return_inverse=True)
    links = coo_array((np.ones(len(files), dtype=bool), (contents, contents.max() + 1 + numbers)))
    links.resize((contents.max() + numbers.max() + 2,) * 2)
    _, groups = connected_components(links, directed=False)
    of_image = groups[contents]
    least = np.full(of_image.max() + 1, len(digests))
    np.minimum.at(least, of_image, contents)
    first = np.zeros(contents.max() + 1, dtype=np.int64)
    first[contents] = np.arange(len(digests))
    return digests[first[least[of_image]]]


def hold_out_by_position(labels: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Chooses images by their position in the set and its size, in equal parts of every class.

    It suits sets that never change: one more image moves many others from one side to the other.

    Args:
        labels: int64 ``[N]``; -1 is a class like the others.
        fraction: Part to hold back, between 0 and 1.

    Returns:
        bool ``[N]``, true for ``round(fraction * N)`` rows, at least one and at most ``N - 1``.

    Raises:
        ValueError: If there are fewer than two images.
    """
    total = len(labels)
    if total < 2:
        raise ValueError("at least two images are expected, one to train on and one to hold back")
    order = np.argsort(_fixed_hash(total), kind="stable")
    quantiles = np.empty(total)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        quantiles[members] = (np.arange(len(members)) + 0.5) / len(members)
    count = min(max(round(fraction * total), 1), total - 1)
    held = np.zeros(total, dtype=bool)
    held[order[np.argsort(quantiles[order], kind="stable")[:count]]] = True
    return held


def _fixed_hash(count: int) -> NDArray[np.uint64]:
    """Hashes 0..count-1 by SplitMix64: a shuffle that no version of numpy changes."""
    values = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def among(digests: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Says which of the images, uint8 ``[N, 32]``, are exact copies of one of the others, ``[M, 32]``."""
    known = {digest.tobytes() for digest in others}
    return np.array([digest.tobytes() in known for digest in digests], dtype=bool)
