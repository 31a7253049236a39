from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipelines.evaluation.samples import SavedSamples, compare, spread
from pipelines.training.data import EvaluationOrder


def test_samples_are_read_from_disk_in_batches(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 1), dtype=np.uint8)
    codes = np.arange(14).reshape(7, 2)
    np.savez_compressed(tmp_path / "images.npz", images=images, labels=np.arange(7), codes=codes)
    samples = SavedSamples(tmp_path / "images.npz")
    assert isinstance(samples.images, np.memmap)
    batch = samples.__getitems__([5, 2])
    assert np.array_equal(batch["images"], images[[5, 2]])
    assert batch["labels"].tolist() == [5, 2]
    assert batch["codes"].tolist() == [[10, 11], [4, 5]]


def test_indices_are_spread_over_all():
    assert spread(9, 3) == [0, 4, 8]
    assert spread(3, 3) == [0, 1, 2]


class Images(torch.utils.data.Dataset):
    def __init__(self, count, seed):
        self.pixels = torch.randint(256, (count, 2, 2, 1), generator=torch.Generator().manual_seed(seed)).byte()

    def __len__(self):
        return len(self.pixels)

    def __getitems__(self, indices):
        return {"images": self.pixels[indices]}


def within(points, others):
    """Share of points that lie within the manifold of others, point by point."""
    distance = np.linalg.norm(others[:, None] - others[None], axis=-1)
    radii = np.sort(distance, axis=1)[:, 3]
    return np.mean([(np.linalg.norm(others - point, axis=1) <= radii).any() for point in points])


@pytest.mark.parametrize(("made", "real"), [(12, 40), (40, 12)])
def test_precision_and_recall_are_of_equally_many_images(made, real):
    """As many as the smaller set has, spread over the larger one; the distance is of all."""

    class Pixels:
        dim, suffix = 4, "pixels"

        def __call__(self, images):
            return images.flatten(1)

    held_out, samples = Images(real, 0), Images(made, 1)
    subject = SimpleNamespace(
        device=torch.device("cpu"),
        images=SimpleNamespace(validation=held_out),
        share=lambda examples: EvaluationOrder(examples, 5),
    )
    found = compare(subject, Pixels(), samples, "samples")
    points = [
        images.pixels[spread(len(images), 12)].flatten(1).double().numpy() / 127.5 for images in (samples, held_out)
    ]
    assert found["precision_pixels"] == pytest.approx(within(points[0], points[1]))
    assert found["recall_pixels"] == pytest.approx(within(points[1], points[0]))
    assert found["frechet_distance_pixels"] > 0
