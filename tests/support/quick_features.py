"""Features in the place of a large network's."""

import torch.nn.functional as F

from pipelines.evaluation.features import Features


class QuickFeatures(Features):
    """Light in a grid of 2 × 2."""

    suffix = "quick"
    dim = 4

    def __init__(self, device):
        pass

    def __call__(self, images):
        return F.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)
