from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from stage1_vqvae.data.dataset import ImageSplit, LabelledImages


class ArrayReader:
    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.pixels[rows]


def labelled(count: int = 10) -> LabelledImages:
    pixels = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2, 1)
    digests = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    return LabelledImages(ArrayReader(pixels), np.arange(count, dtype=np.int64) % 3, digests)


def same(batch: torch.Tensor) -> torch.Tensor:
    return batch


def test_a_batch_holds_the_images_of_its_draws() -> None:
    rows = np.array([7, 2, 5])
    split = ImageSplit(labelled(), rows, {})
    batch = split.__getitems__([0, 2, 4, 3 * 10**12 + 1])  # the last two are indices 1 of later epochs
    assert len(split) == 3
    assert batch["images"][:, 0, 0, 0].tolist() == [28, 20, 8, 8]
    assert batch["labels"].tolist() == [7 % 3, 5 % 3, 2 % 3, 2 % 3]
    assert batch["draws"].tolist() == [0, 2, 4, 3 * 10**12 + 1]
    assert batch["images"].dtype == torch.uint8
    assert batch["labels"].dtype == batch["draws"].dtype == torch.int64


def test_it_works_in_a_data_loader() -> None:
    split = ImageSplit(labelled(), np.arange(10), {})
    loader = DataLoader(split, batch_size=4, collate_fn=same)
    assert [len(batch["images"]) for batch in loader] == [4, 4, 2]  # type: ignore[call-overload]


def test_equal_descriptions_mean_equal_images() -> None:
    images = labelled()
    base = ImageSplit(images, np.arange(5), {"source": "here"}).description
    assert base["source"] == "here"
    assert base["count"] == 5
    assert base == ImageSplit(images, np.arange(5), {"source": "here"}).description
    relabelled = LabelledImages(images.reader, images.labels + 1, images.digests)
    repainted = LabelledImages(images.reader, images.labels, images.digests + np.uint8(1))
    others = [
        ImageSplit(images, np.arange(1, 6), {"source": "here"}),
        ImageSplit(images, np.arange(5)[::-1].copy(), {"source": "here"}),
        ImageSplit(relabelled, np.arange(5), {"source": "here"}),
        ImageSplit(repainted, np.arange(5), {"source": "here"}),
    ]
    digests = {other.description["digest"] for other in others} | {base["digest"]}
    assert len(digests) == len(others) + 1
