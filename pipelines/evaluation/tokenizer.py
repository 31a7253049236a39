"""A tokenizer and a prior measured on held-out images: reconstructions, codes, what the codes carry, bits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MeanSquaredError, Metric

from pipelines.cli.kernel import tracked
from pipelines.distributed import collectives
from pipelines.evaluation.batches import batches
from pipelines.evaluation.features import Features
from pipelines.evaluation.set_metrics import frechet_distance
from pipelines.training.data import EvaluationOrder
from stage1_vqvae.codes import CodeLayout
from stage1_vqvae.data.augmentation import normalize
from stage1_vqvae.data.dataset import ImageData
from stage1_vqvae.devices import float64_device, in_float64
from stage1_vqvae.metrics import CodeUse, reconstruction_quality
from stage1_vqvae.tokenizer import Tokenizer
from stage2_prior.prior import NO_LABEL, Prior

Metrics = dict[str, float]
"""Values by the name of the metric."""

RIGHT = "right_codes"
"""An image's own codes."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated, and on what.

    Attributes:
        tokenizer: In eval mode, on its device.
        prior: Likewise; None where the run has none.
        class_names: Of the prior's classes.
        images: Training and held-out images.
        batch_size: Images at a time.
        seed: Of everything that is random.
    """

    tokenizer: Tokenizer
    prior: Prior | None
    class_names: tuple[str, ...]
    images: ImageData
    batch_size: int
    seed: int

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return next(self.tokenizer.parameters()).device

    def labels(self, labels: Tensor) -> Tensor:
        """Labels ``[B]`` for the prior: the null class, -1, where it was trained without classes."""
        return labels if self.class_names else torch.full_like(labels, NO_LABEL)

    def share(self, examples: int) -> EvaluationOrder:
        """Indices of the examples that this process measures, in batches, where there are ``examples`` in all."""
        return EvaluationOrder(examples, self.batch_size, collectives.rank(), collectives.ranks())


class Measures(nn.Module):
    """The metrics of one pass over the held-out images.

    Args:
        layout: Of the codes.
    """

    def __init__(self, layout: CodeLayout) -> None:
        super().__init__()
        self.quality = reconstruction_quality()
        self.use = CodeUse(layout)
        nothing = torch.zeros(1, layout.length)
        wrong = list(wrong_codes(layout, nothing, nothing, nothing))
        self.errors = nn.ModuleDict({name: MeanSquaredError() for name in wrong})
        self.nats = nn.ModuleDict({name: MeanMetric() for name in (RIGHT, *wrong)})  # of an image's pixels
        self.prior_nats = nn.ModuleList(MeanMetric() for _ in layout.grids)  # of a code of each grid

    def grid_nats(self) -> list[float]:
        """Nats of a code of each grid under the prior."""
        return [value_of(mean) for mean in self.prior_nats if isinstance(mean, MeanMetric)]


@torch.no_grad()
def measure_tokenizer(subject: Subject, features: Features) -> dict[str, Metrics]:
    """All metrics of tokenizer and prior over the whole validation split and all processes.

    Returns:
        Metrics by section: ``reconstruction``, ``codes``, ``latents``, ``likelihood``.
    """
    tokenizer = subject.tokenizer
    common = most_common(subject)  # [T]
    measures = Measures(tokenizer.layout).to(subject.device)
    frechet = frechet_distance(features.dim).to(float64_device(subject.device))
    for images, labels, others in with_partners(subject):
        codes = tokenizer.encode(images)
        decoded = tokenizer.decode(codes)
        measures.quality.update(decoded, images)
        measures.use.update(codes)
        frechet.update(in_float64(features(images)), real=True)
        frechet.update(in_float64(features(decoded)), real=False)
        swapped = wrong_codes(tokenizer.layout, codes, tokenizer.encode(others), common)
        for name, wrong in swapped.items():
            measures.errors[name].update(tokenizer.decode(wrong), images)  # type: ignore[operator]
        if subject.prior is not None:
            nats = subject.prior.nats(codes, subject.labels(labels))
            for mean, of_grid in zip(measures.prior_nats, tokenizer.layout.split(nats), strict=True):
                mean.update(of_grid)  # type: ignore[operator]
        if tokenizer.likelihood is not None:
            for name, given in {RIGHT: codes, **swapped}.items():
                measures.nats[name].update(tokenizer.nats(images, given))  # type: ignore[operator]
    metrics = metrics_of(subject, measures)
    name = "rfid" if features.suffix == "inception" else f"frechet_distance_{features.suffix}"
    metrics["reconstruction"][name] = value_of(frechet)
    return metrics


def metrics_of(subject: Subject, measures: Measures) -> dict[str, Metrics]:
    """Compute the metrics, after every process has measured its share."""
    quality = {name: float(value) for name, value in measures.quality.compute().items()}
    latents = {f"mse_{RIGHT}": quality["mse"]} | values_of("mse", measures.errors)
    if subject.tokenizer.likelihood is not None:
        latents |= values_of("nats", measures.nats)
    grid_nats = measures.grid_nats() if subject.prior is not None else None
    return {
        "reconstruction": quality,
        "codes": {name: float(value) for name, value in measures.use.compute().items()},
        "latents": latents,
        "likelihood": likelihood_metrics(subject, grid_nats, latents.get(f"nats_{RIGHT}")),
    }


def likelihood_metrics(subject: Subject, grid_nats: Sequence[float] | None, pixel_nats: float | None) -> Metrics:
    """Rates and bits per dimension.

    Args:
        subject: What is measured.
        grid_nats: Mean of ``-log p(code | codes before it, class)`` for each grid; None without a prior.
        pixel_nats: Mean of ``-log p(image | codes)``; None for a tokenizer without a likelihood.
    """
    layout = subject.tokenizer.layout
    uniform_nats = float(in_float64(layout.codebook_size_at()).log().sum())
    dims = subject.tokenizer.channels * math.prod(subject.tokenizer.image_size)
    metrics = {"uniform_bits_per_image": uniform_nats / math.log(2)}
    rates = {"uniform": uniform_nats}
    if grid_nats is not None:
        prior_nats = sum(nats * length for nats, length in zip(grid_nats, layout.lengths, strict=True))
        metrics |= {
            "nats_per_code": prior_nats / layout.length,
            "bits_per_code": prior_nats / layout.length / math.log(2),
        }
        if len(grid_nats) > 1:
            metrics |= {f"nats_per_code_{grid}": nats for grid, nats in enumerate(grid_nats)}
        metrics["prior_bits_per_image"] = prior_nats / math.log(2)
        # The class that the prior is told, drawn evenly, has to be told to the receiver too.
        rates["prior"] = prior_nats + math.log(max(len(subject.class_names), 1))
    if pixel_nats is not None:
        metrics["bits_per_dim_of_pixels"] = pixel_nats / dims / math.log(2)
        for name, rate in rates.items():
            metrics[f"bits_per_dim_with_{name}"] = (pixel_nats + rate) / dims / math.log(2)
    return metrics


def with_partners(subject: Subject) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Read this process's held-out images, each beside another image: the next one in a fixed random order.

    Yields:
        Images ``[B, C, H, W]`` in [-1, 1], their labels ``[B]``, and the other images ``[B, C, H, W]``.
    """
    data, device = subject.images.validation, subject.device
    order = np.random.default_rng(subject.seed).permutation(len(data))
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -1)
    share = subject.share(len(data))
    own = batches(data, tracked(share, "held-out images"), device)
    others = batches(data, (partner[indices].tolist() for indices in share), device)
    for batch, other in zip(own, others, strict=True):
        yield normalize(batch["images"]), batch["labels"], normalize(other["images"])


@torch.no_grad()
def most_common(subject: Subject) -> Tensor:
    """The code that is most frequent at each position over the split, int64 ``[T]``."""
    layout = subject.tokenizer.layout
    sizes = tuple(layout.codebook_size_at().tolist())
    counted = CodeUse(CodeLayout(((1,),) * layout.length, sizes)).to(subject.device)
    data = subject.images.validation
    order = tracked(subject.share(len(data)), "codes")
    for batch in batches(data, order, subject.device):
        counted.update(subject.tokenizer.encode(normalize(batch["images"])))
    with counted.sync_context():
        return counted.counts.argmax(1)


def wrong_codes(layout: CodeLayout, codes: Tensor, others: Tensor, common: Tensor) -> dict[str, Tensor]:
    """Codes that are not an image's own, ``[B, T]`` each.

    Args:
        layout: Of the codes.
        codes: The images' own, ``[B, T]``.
        others: Other images', ``[B, T]``.
        common: The most common at each position, ``[T]``.

    Returns:
        ``shuffled_codes`` and ``common_codes``; where there are several grids, also the image's own codes with those of
        one grid from another image, ``shuffled_codes_0`` and so on.
    """
    found = {"shuffled_codes": others, "common_codes": common.expand(len(codes), -1)}
    if len(layout.grids) > 1:
        own, foreign = codes.split(layout.lengths, dim=1), others.split(layout.lengths, dim=1)
        for grid in range(len(layout.grids)):
            mixed = [*own[:grid], foreign[grid], *own[grid + 1 :]]
            found[f"shuffled_codes_{grid}"] = torch.cat(mixed, dim=1)
    return found


def values_of(measure: str, metrics: nn.ModuleDict) -> Metrics:
    """Values of metrics over all processes, each under its name after ``measure`` and an underscore."""
    return {f"{measure}_{name}": value_of(metric) for name, metric in metrics.items() if isinstance(metric, Metric)}


def value_of(metric: Metric) -> float:
    """A metric's value over all processes."""
    return float(metric.compute())
