"""Metrics of a tokenizer over a whole split and all ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import MeanSquaredError, Metric, MetricCollection
from torchmetrics.image import StructuralSimilarityIndexMeasure

from stage1_vqvae.codes import CodeLayout


def reconstruction_quality() -> MetricCollection:
    """``mse``, ``psnr`` and ``ssim`` of reconstructions, updated with images ``[B, C, H, W]`` in [-1, 1].

    ``mse`` is of pixels in [-1, 1], ``psnr`` in dB of the whole split's MSE, and ``ssim`` of :class:`SSIM`.
    """
    # Which metrics share sums is said: to find out, torchmetrics would compare them on the host.
    return MetricCollection(
        {"mse": MSE(), "psnr": PSNR(), "ssim": SSIM(data_range=1.0)},
        compute_groups=[["mse", "psnr"], ["ssim"]],
    )


class MSE(MeanSquaredError):
    """Mean squared error of images in any memory format."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add images ``preds`` and ``target``, each ``[B, C, H, W]``."""
        super().update(preds.contiguous(), target.contiguous())  # torchmetrics takes views of them


class PSNR(MSE):
    """Peak signal-to-noise ratio in dB of images in [-1, 1], of the mean squared error over all of them.

    It shares its sums with the mean squared error. torchmetrics' own class copies a number to the device at every
    update and waits for it.
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """``10 log10(4 / MSE)``, 4 being the square of the range."""
        return 10 * (4 / super().compute()).log10()


class SSIM(StructuralSimilarityIndexMeasure):
    """Structural similarity (doi 10.1109/TIP.2003.819861) of images that are given in [-1, 1], computed on [0, 1].

    It is not invariant to a shift of the values: its terms compare means, which are meant to be of light. Windows are
    Gaussian, 11 pixels wide, of standard deviation 1.5; K1 = 0.01 and K2 = 0.03. Images are mirrored at their borders
    by 5 pixels, without the border pixel itself, and all positions count. The paper's code and scikit-image leave the
    border of 5 pixels out: on images of 28 or 32 pixels the two differ by hundredths.
    """

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add images ``preds`` and ``target``, each ``[B, C, H, W]`` in [-1, 1]."""
        # In float32 also under autocast: variances are differences of means that half precision rounds to hundredths.
        with torch.autocast(preds.device.type, enabled=False):
            super().update((preds.float() + 1) / 2, (target.float() + 1) / 2)


class CodeUse(Metric):
    """How much of each codebook a split uses.

    ``usage`` is the share of codes that occur at all; ``perplexity`` is exp of the entropy of their frequencies, in
    nats: the size of an evenly used codebook with as much information. Both count every code of the split, so
    neither depends on the batch size.

    Args:
        layout: Layout of the codes; each grid is counted by itself.
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
        self.counts += count_codes(codes, self.layout)

    def compute(self) -> dict[str, Tensor]:
        """``usage`` in [0, 1] and ``perplexity`` in [1, K], with the grid's number appended if there are several."""
        return use_of_codes(self.counts, self.layout)


def count_codes(codes: Tensor, layout: CodeLayout) -> Tensor:
    """How often each code of each grid occurs in ``codes [B, T]``: int64 ``[grids, K]``."""
    counts = torch.zeros(len(layout.grids), layout.vocabulary, dtype=torch.int64, device=codes.device)
    for row, part in zip(counts, layout.split(codes), strict=True):
        row.index_add_(0, part.flatten(), torch.ones_like(part).flatten())  # bincount would wait for the device
    return counts


def use_of_codes(counts: Tensor, layout: CodeLayout) -> dict[str, Tensor]:
    """``usage`` and ``perplexity`` of ``counts [grids, K]``, with the grid's number appended if there are several."""
    metrics = {}
    for grid, (row, size) in enumerate(zip(counts, layout.codebook_sizes, strict=True)):
        suffix = f"_{grid}" if len(layout.grids) > 1 else ""
        share = row / row.sum()
        metrics[f"usage{suffix}"] = (row > 0).sum() / size
        metrics[f"perplexity{suffix}"] = torch.special.entr(share).sum().exp()
    return metrics
