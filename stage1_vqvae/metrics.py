"""Figures of a tokenizer over a whole split and all ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MeanSquaredError, Metric, MetricCollection
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from stage1_vqvae.codes import CodeLayout


def reconstruction_quality() -> MetricCollection:
    """``mse``, ``psnr`` (dB, of the split's MSE) and ``ssim`` of reconstructions, of pixels in [-1, 1]: range 2."""
    return MetricCollection(
        {
            "mse": MeanSquaredError(),
            "psnr": PeakSignalNoiseRatio(data_range=2.0),
            "ssim": StructuralSimilarityIndexMeasure(data_range=2.0),
        }
    )


class CodeUse(Metric):
    """How much of each codebook a split uses.

    ``usage`` is the share of codes that occur at all; ``perplexity`` is exp of the entropy of their frequencies, in
    nats: the size of an evenly used codebook with as much information. Both count every code of the split, so
    neither depends on the batch size.

    Args:
        layout: How the codes are laid out; grids are counted apart.
    """

    higher_is_better = True
    full_state_update = False

    def __init__(self, layout: CodeLayout) -> None:
        super().__init__()
        self.layout = layout
        counts = torch.zeros(len(layout.grids), layout.vocabulary, dtype=torch.int64)
        self.add_state("counts", counts, dist_reduce_fx="sum")

    counts: Tensor

    def update(self, codes: Tensor) -> None:
        """Count ``codes [B, T]``."""
        for row, part in zip(self.counts, self.layout.split(codes), strict=True):
            row += torch.bincount(part.flatten(), minlength=len(row))

    def compute(self) -> dict[str, Tensor]:
        """``usage`` in [0, 1] and ``perplexity`` in [1, K], with the grid's number behind where there are several."""
        figures = {}
        for grid, (row, size) in enumerate(zip(self.counts, self.layout.codebook_sizes, strict=True)):
            suffix = f"_{grid}" if len(self.layout.grids) > 1 else ""
            share = row / row.sum()
            figures[f"usage{suffix}"] = (row > 0).sum() / size
            figures[f"perplexity{suffix}"] = torch.special.entr(share).sum().exp()
        return figures
