import numpy as np
import torch

from stage1_vqvae.quantizers.kmeans import kmeans


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
