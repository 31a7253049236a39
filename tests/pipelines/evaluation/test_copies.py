from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.evaluation.copies import measure_copies
from pipelines.evaluation.fixed_features import Gathered
from pipelines.training.data import EvaluationOrder


class Codes(torch.utils.data.Dataset):
    """Images of 2 × 2 pixels, each of which is its own four codes."""

    def __init__(self, codes):
        self.codes = torch.as_tensor(codes)

    def __len__(self):
        return len(self.codes)

    def __getitems__(self, indices):
        return {"images": self.codes[indices].view(-1, 2, 2, 1).byte()}


class Pixels:
    """A tokenizer without loss, codes 0 to 255."""

    def encode(self, images):
        return ((images + 1) * 127.5).round().long().flatten(1)

    def decode(self, codes):
        return codes.view(-1, 1, 2, 2) / 127.5 - 1


def subject(train, held_out):
    return SimpleNamespace(
        device=torch.device("cpu"),
        tokenizer=Pixels(),
        images=SimpleNamespace(train=Codes(train), validation=Codes(held_out)),
        share=lambda examples: EvaluationOrder(examples, 7),
    )


def features(images):
    return images.flatten(1) + 1.5


def nearest(points, others):
    """Distance of directions and share of differing codes, pair by pair."""

    def directions(codes):
        seen = np.asarray(codes) / 127.5 + 0.5
        return seen / np.linalg.norm(seen, axis=1, keepdims=True)

    far = np.linalg.norm(directions(points)[:, None] - directions(others)[None], axis=-1)
    differ = (np.asarray(points)[:, None] != np.asarray(others)[None]).mean(-1)
    return far.min(1), far.argmin(1), differ.min(1)


@pytest.fixture
def found(tmp_path):
    rng = np.random.default_rng(0)
    train, held_out = rng.integers(0, 256, (40, 4)), rng.integers(0, 256, (30, 4))
    samples = rng.integers(0, 256, (20, 4))
    samples[:5] = train[[3, 1, 4, 15, 9]]  # a quarter is learned by heart
    images = samples.reshape(-1, 2, 2, 1).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.zeros(20, np.int64), codes=samples)
    run = subject(train, held_out)
    metrics = measure_copies(run, tmp_path / "images.npz", features, tmp_path / "copies.png")["copies"]
    return metrics, samples, train, held_out


def test_the_nearest_training_images_are_those_of_a_loop(found):
    metrics, samples, train, held_out = found
    distance, _, differing = nearest(samples, train)
    usual, _, usually = nearest(held_out, train)
    # torch's median of an even number is the lower one
    expected = {
        "near_in_features": np.sort(distance)[9],
        "near_in_features_held_out": np.sort(usual)[14],
        "copies_in_features": (distance < np.quantile(usual, 0.01)).mean(),
        "near_in_codes": np.sort(differing)[9],
        "near_in_codes_held_out": np.sort(usually)[14],
        "copies_in_codes": (differing < np.quantile(usually, 0.01)).mean(),
    }
    assert metrics == pytest.approx(expected, abs=1e-3)
    assert metrics["copies_in_codes"] == 0.25


def test_the_picture_shows_the_nearest_pairs_first(found, tmp_path):
    _, samples, train, _ = found
    distance, number, _ = nearest(samples, train)
    order = np.argsort(distance, kind="stable")[:16]
    picture = np.asarray(Image.open(tmp_path / "copies.png"))
    zoom = picture.shape[0] // 10  # two rows of two pixels, and gaps of two
    pixels = picture[::zoom, ::zoom]
    for column in range(5, 16):  # the first five are equally near
        left = 2 + 4 * column
        assert np.array_equal(pixels[2:4, left : left + 2].flatten(), samples[order[column]])
        assert np.array_equal(pixels[6:8, left : left + 2].flatten(), train[number[order[column]]])
    for column in range(5):
        left = 2 + 4 * column
        assert np.array_equal(pixels[2:4, left : left + 2], pixels[6:8, left : left + 2])


def test_rows_are_gathered_in_the_order_of_their_numbers():
    gathered = Gathered()
    gathered.update(torch.tensor([[2.0], [0.0]]), [2, 0])
    gathered.update(torch.tensor([[1.0]]), [1])
    assert gathered.compute().tolist() == [[0.0], [1.0], [2.0]]
