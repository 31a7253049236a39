import numpy as np
import pytest
import torch

from pipelines.evaluation.features import InceptionFeatures, OwnNetwork, questions, turns_of
from stage1_vqvae.data.augmentation import Augmentation, normalize
from stage1_vqvae.data.dataset import ImageData, ImageSplit, LabelledImages
from tests.pipelines.evaluation.test_tokenizer import ArrayReader


def bars(n=60, labelled=True, size=(12, 12)):
    """Images of a bright upper half (class 0) or a bright left half (class 1)."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (n, *size, 1), dtype=np.uint8)
    pixels[::2, : size[0] // 2] += 150
    pixels[1::2, :, : size[1] // 2] += 150
    labels = np.arange(n) % 2 if labelled else np.full(n, -1)
    images = LabelledImages(ArrayReader(pixels), labels, np.zeros((n, 32), np.uint8))
    train, held = (ImageSplit(images, rows, {}) for rows in np.split(np.arange(n), [40]))
    return ImageData(train, held, ("up", "left") if labelled else (), size, 1, Augmentation(), 0)


def test_learns_the_classes_and_is_kept(tmp_path, monkeypatch):
    images = bars()
    network = OwnNetwork(steps=30, width=4)
    trained = network.load(tmp_path, images, seed=1, device=torch.device("cpu"))
    seen = images.validation.__getitems__(list(range(20)))
    assert trained.tells_classes
    assert trained.accuracy == 1
    assert torch.equal(trained.classify(normalize(seen["images"])), seen["labels"])
    features = trained(normalize(seen["images"]))
    assert features.shape == (20, trained.dim)
    again = network.load(tmp_path / "again", images, seed=1, device=torch.device("cpu"))
    assert torch.equal(again(normalize(seen["images"])), features)
    monkeypatch.setattr("pipelines.evaluation.features.train", None)
    kept = network.load(tmp_path, images, seed=1, device=torch.device("cpu"))
    assert torch.equal(kept(normalize(seen["images"])), features)


@pytest.mark.parametrize("size", [(12, 12), (12, 8)])
def test_without_labels_learns_how_images_are_turned(tmp_path, size):
    trained = OwnNetwork(steps=40, width=4).load(tmp_path, bars(labelled=False, size=size), 0, torch.device("cpu"))
    assert not trained.tells_classes
    assert trained.accuracy > 1.2 / len(turns_of(size))


def test_every_image_is_seen_in_every_turn():
    images = torch.arange(3 * 4.0).view(3, 1, 2, 2)
    seen = {index: set() for index in range(3)}
    for epoch in range(40):
        draws = torch.arange(3) + 3 * epoch
        turned, answers = questions(images, torch.full((3,), -1), (0, 1, 2, 3), draws)
        for index in range(3):
            seen[index].add(int(answers[index]))
            assert torch.equal(turned[index], images[index].rot90(int(answers[index]), (1, 2)))
    assert all(len(found) == 4 for found in seen.values())


def test_large_images_are_reduced():
    from pipelines.evaluation.features import FeatureNetwork

    network = FeatureNetwork(3, 2, 4)
    images = torch.rand(2, 3, 128, 96)
    smaller = torch.nn.functional.interpolate(images, (64, 64), mode="area")
    torch.testing.assert_close(network.features(images), network.features(smaller))


def test_inception_is_never_on_by_accident(monkeypatch):
    monkeypatch.setattr("pipelines.evaluation.features.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'vqvae-prior\[fid\]', or features=own"):
        InceptionFeatures(torch.device("cpu"))


def test_impossible_networks_are_refused():
    with pytest.raises(ValueError, match="width a multiple of 4, got 0 and 6"):
        OwnNetwork(steps=0, width=6)
