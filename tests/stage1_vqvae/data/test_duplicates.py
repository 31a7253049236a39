import numpy as np
import torch
from PIL import Image

from stage1_vqvae.data.duplicates import OF_CONTRAST, OF_RANGE, SIDE, first_twins, thumbnails


def photographs(n=6, seed=0):
    """Smooth pictures of 64×48 pixels that have nothing to do with each other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC) for pixels in coarse]


def stacked(pictures):
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))


def test_thumbnails_are_means_of_equal_boxes():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8))
    means = images.numpy().reshape(2, SIDE, 2, SIDE, 3, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(thumbnails(images).numpy(), means.transpose(0, 3, 1, 2).reshape(2, -1), atol=1e-6)


def test_a_copy_that_was_resized_recompressed_or_brightened_is_a_twin(tmp_path):
    pictures = photographs()
    pictures[0].save(tmp_path / "0.jpg", quality=60)
    changed = [
        Image.open(tmp_path / "0.jpg"),
        pictures[1].resize((40, 30)).resize((64, 48)),
        Image.fromarray((np.asarray(pictures[2]) * 0.98).astype(np.uint8)),
    ]
    others = [pictures[3].transpose(Image.Transpose.FLIP_LEFT_RIGHT), *photographs(2, seed=1)]
    found = first_twins(thumbnails(stacked(pictures + changed + others)))
    assert found.tolist() == [-1] * 6 + [0, 1, 2] + [-1] * 3


def test_the_same_shape_in_another_colour_is_no_twin():
    red, green = np.zeros((2, 32, 32, 3), np.uint8)
    red[8:24, 8:24, 0] = green[8:24, 8:24, 1] = 200
    assert first_twins(thumbnails(torch.from_numpy(np.stack([red, green])))).tolist() == [-1, -1]


def test_twins_equal_brute_force():
    rng = np.random.default_rng(2)
    base = rng.random((5, 32)).astype(np.float32)
    vectors = np.concatenate([base + rng.normal(0, scale, base.shape) for scale in (0, 0.01, 0.02, 0.03, 0.05)])
    vectors = np.concatenate([vectors, np.full((3, 32), 0.5) + np.array([[0], [1 / 255], [3 / 255]])])
    vectors = vectors[rng.permutation(len(vectors))].astype(np.float32)

    def near(one, other):
        difference = np.sqrt(np.mean((one - other) ** 2))
        return difference <= max(OF_CONTRAST * min(one.std(), other.std()), OF_RANGE)

    expected = [
        next((other for other in range(row) if near(vectors[row], vectors[other])), -1) for row in range(len(vectors))
    ]
    assert 5 < sum(row >= 0 for row in expected) < len(vectors) - 5
    assert first_twins(torch.from_numpy(vectors)).tolist() == expected
    others = vectors[:9] + np.float32(0.001)
    expected = [next((row for row in range(9) if near(vector, others[row])), -1) for vector in vectors]
    assert first_twins(torch.from_numpy(vectors), torch.from_numpy(others)).tolist() == expected


def test_without_others_there_is_no_twin():
    assert first_twins(torch.rand(2, 8), torch.empty(0, 8)).tolist() == [-1, -1]
