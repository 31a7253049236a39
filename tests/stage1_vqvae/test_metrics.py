import numpy as np
import torch

from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.metrics import CodeUse


def test_equals_bincount_over_the_whole_split_whatever_the_batches():
    torch.manual_seed(0)
    codes = torch.randint(0, 5, (13, 6))
    metric = CodeUse(CodeLayout(((2, 3),), (8,)))
    for part in codes.split(4):
        metric.update(part)
    metrics = metric.compute()
    share = np.bincount(codes.flatten().numpy(), minlength=8) / codes.numel()
    used = share[share > 0]
    assert metrics["usage"].item() == len(used) / 8
    np.testing.assert_allclose(metrics["perplexity"].item(), np.exp(-(used * np.log(used)).sum()), rtol=1e-5)


def test_grids_are_counted_apart():
    metric = CodeUse(CodeLayout(((1, 1), (1, 2)), (2, 4)))
    metric.update(torch.tensor([[0, 1, 2], [1, 1, 2]]))
    metrics = {name: round(value.item(), 4) for name, value in metric.compute().items()}
    assert metrics == {"usage_0": 1.0, "perplexity_0": 2.0, "usage_1": 0.5, "perplexity_1": 2.0}
