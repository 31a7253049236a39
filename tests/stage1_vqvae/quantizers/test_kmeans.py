import numpy as np
import torch

from stage1_vqvae.quantizers import kmeans as module


def kmeans(points, clusters, **options):
    """Of all points."""
    return module.kmeans(points, torch.tensor(len(points)), clusters, **options)


def test_equals_lloyd_in_numpy():
    torch.manual_seed(0)
    points = torch.randn(50, 3)
    centres = points[:6].numpy().astype(np.float64)
    for _ in range(10):
        assigned = ((points.numpy()[:, None] - centres) ** 2).sum(-1).argmin(1)
        centres = np.stack([points.numpy()[assigned == k].mean(0) for k in range(6)])
    np.testing.assert_allclose(kmeans(points, 6).numpy(), centres, atol=1e-5)


def test_fewer_points_than_clusters():
    centres = kmeans(torch.tensor([[0.0], [4.0]]), 5)
    assert sorted(set(centres.flatten().tolist())) == [0.0, 4.0]


def test_cosine_keeps_centres_at_length_1_and_equals_spherical_kmeans_in_numpy():
    torch.manual_seed(0)
    points = torch.nn.functional.normalize(torch.randn(60, 3), dim=1)
    centres = points[:5].numpy().astype(np.float64)
    for _ in range(10):
        assigned = (points.numpy() @ centres.T).argmax(1)
        sums = np.stack([points.numpy()[assigned == k].sum(0) for k in range(5)])
        centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    found = kmeans(points, 5, metric="cosine")
    np.testing.assert_allclose(found.numpy(), centres, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))


def test_precision_is_the_points_own_whatever_the_default():
    points = torch.randn(20, 3)
    expected = kmeans(points, 4)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = kmeans(points, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


def test_zeros_behind_the_points_do_not_count():
    torch.manual_seed(0)
    points = torch.randn(50, 3) + 1
    padded = torch.cat([points, torch.zeros(30, 3)])
    for metric in ("euclidean", "cosine"):
        found = module.kmeans(padded, torch.tensor(50), 6, metric=metric)
        torch.testing.assert_close(found, kmeans(points, 6, metric=metric))
    few = module.kmeans(torch.cat([points[:2], torch.zeros(9, 3)]), torch.tensor(2), 5)
    assert torch.equal(few.unique(dim=0), points[:2].unique(dim=0))
