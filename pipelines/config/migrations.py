"""What earlier versions called things that have another name today: one table, through which old runs are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

MOVED = {
    # 0.1.0
    "pipelines.features.OwnNetwork": "pipelines.evaluation.OwnNetwork",
    "pipelines.hardware.Hardware": "pipelines.distributed.Hardware",
    "pipelines.optimization.Optimization": "pipelines.training.Optimization",
    "pipelines.tracking.Csv": "pipelines.tracking.Csv",
    "pipelines.tracking_tensorboard.TensorBoard": "pipelines.tracking.TensorBoard",
    "pipelines.tracking_wandb.Wandb": "pipelines.tracking.Wandb",
    "stage1_vqvae.augmentation.Augmentation": "stage1_vqvae.data.Augmentation",
    "stage1_vqvae.bottlenecks.CodeLatents": "pipelines.posterior_collapse.CodeLatents",
    "stage1_vqvae.bottlenecks.GaussianLatents": "pipelines.posterior_collapse.GaussianLatents",
    "stage1_vqvae.image_sources.Folder": "stage1_vqvae.data.Folder",
    "stage1_vqvae.image_sources.Hub": "stage1_vqvae.data.Hub",
    "stage1_vqvae.image_sources.Mnist5k": "stage1_vqvae.data.Mnist5k",
    "stage1_vqvae.image_sources.Parquet": "stage1_vqvae.data.Parquet",
    "stage1_vqvae.latent_pixels.LatentPixelModel": "pipelines.posterior_collapse.LatentPixelModel",
    "stage1_vqvae.objectives.AbsoluteError": "stage1_vqvae.losses.AbsoluteError",
    "stage1_vqvae.objectives.SquaredError": "stage1_vqvae.losses.SquaredError",
    "stage1_vqvae.quantizers.fsq.FSQ": "stage1_vqvae.quantizers.FSQ",
    "stage1_vqvae.quantizers.gumbel.GumbelSoftmax": "stage1_vqvae.quantizers.GumbelSoftmax",
    "stage1_vqvae.quantizers.lookup_free.BinarySpherical": "stage1_vqvae.quantizers.BinarySpherical",
    "stage1_vqvae.quantizers.lookup_free.LookupFree": "stage1_vqvae.quantizers.LookupFree",
    "stage1_vqvae.quantizers.product.Product": "stage1_vqvae.quantizers.Product",
    "stage1_vqvae.quantizers.residual.Residual": "stage1_vqvae.quantizers.Residual",
    "stage1_vqvae.quantizers.simvq.SimVQ": "stage1_vqvae.quantizers.SimVQ",
    "stage1_vqvae.quantizers.vector.EMAVectorQuantizer": "stage1_vqvae.quantizers.EMAVectorQuantizer",
    "stage1_vqvae.quantizers.vector.VectorQuantizer": "stage1_vqvae.quantizers.VectorQuantizer",
    "stage1_vqvae.vqvae.VQVAE": "stage1_vqvae.VQVAE",
    "stage1_vqvae.vqvae2.VQVAE2": "stage1_vqvae.VQVAE2",
    "stage2_prior.pixelcnn.PixelCNN": "stage2_prior.pixelcnn.PixelCNN",
    "stage2_prior.transformer.Transformer": "stage2_prior.transformer.Transformer",
}
"""Classes that a configuration may name: their import path in an earlier version, and today's."""

_QUANTIZER = {"commitment": "commitment_cost"}
_NETWORK = {"hidden": "width", "residual_hidden": "residual_width", "margin": "padding"}

RENAMED = {
    # 0.1.0
    "stage1_vqvae.VQVAE": {**_NETWORK, "factor": "downsample_factor"},
    "stage1_vqvae.VQVAE2": {**_NETWORK, "factors": "downsample_factors"},
    **{
        f"stage1_vqvae.quantizers.{name}": _QUANTIZER
        for name in (
            *("BinarySpherical", "EMAVectorQuantizer", "LookupFree"),
            *("Residual", "SimVQ", "VectorQuantizer"),
        )
    },
    "stage2_prior.pixelcnn.PixelCNN": {"channels": "width"},
    "pipelines.distributed.Hardware": {"sharing": "strategy"},
    "pipelines.training.StageTrainer": {"average": "ema_decay"},
    "pipelines.posterior_collapse.LatentPixelModel": {"hidden": "encoder_width", "factor": "downsample_factor"},
}
"""Arguments of a class by its import path of today: an earlier version's name, and today's."""

RENAMED_GROUPS = {
    # 0.1.0
    "trainer": "hardware",
}
"""Groups of ``conf``: an earlier version's name, and today's."""

FORMER: dict[str, dict[str, Any]] = {
    # 0.1.0 held images back by their position in the set, and decoded JPEGs at their size.
    "stage1_vqvae.image_sources.Folder": {"holdout": "position", "jpeg_draft": False},
    "stage1_vqvae.image_sources.Hub": {"holdout": "position", "jpeg_draft": False},
    "stage1_vqvae.image_sources.Parquet": {"holdout": "position", "jpeg_draft": False},
    # 0.1.0 did not measure the variance of images.
    "stage1_vqvae.objectives.SquaredError": {"data_variance": 1.0},
}
"""Values of arguments that a class did not have yet, by its import path of then, where today's default is another."""


def _position(name: str) -> str:
    return re.sub(r"(^|\.)place(\.|$)", r"\1position\2", name)


WEIGHTS: dict[str, Callable[[str], str]] = {
    # 0.1.0
    "stage2_prior.pixelcnn.PixelCNN": _position,
    "stage2_prior.pixelcnn.PixelCNNLevel": _position,
    "stage2_prior.transformer.Transformer": _position,
}
"""Weights of a class, and of classes derived from it, by its import path of today: a function from an earlier version's
name to today's."""


def modernised(plain: Any) -> Any:
    """Plain data of a configuration as this version would write it; what is not in the tables stays as it is.

    Args:
        plain: Mappings, lists and values. A mapping with ``_target_`` is a class and its arguments.
    """
    if isinstance(plain, list | tuple):
        return [modernised(value) for value in plain]
    if not isinstance(plain, Mapping):
        return plain
    node = {key: modernised(value) for key, value in plain.items()}
    if "_target_" not in node:
        return node
    target = MOVED.get(node["_target_"], node["_target_"])
    keys = RENAMED.get(target, {})
    node = {**FORMER.get(node["_target_"], {}), **node}
    return {keys.get(key, key): target if key == "_target_" else value for key, value in node.items()}


def name_of_today(path: str, target: Any = None) -> str | None:
    """What a key of an earlier version is called today, as the command line names it; None of one that had no other.

    Args:
        path: The key as the command line names it.
        target: ``_target_`` of the node that it stands in.
    """
    above, _, key = path.rpartition(".")
    name = RENAMED.get(target, {}).get(key) if above else RENAMED_GROUPS.get(key)
    return f"{above}.{name}".lstrip(".") if name else None


def modernised_weights(kind: type, weights: Mapping[str, Any]) -> dict[str, Any]:
    """A model's weights, or those of a module that holds it, by the names that this version gives them.

    Args:
        kind: The model's class.
        weights: By the names of the version that saved them.
    """
    for base in kind.__mro__:
        rename = WEIGHTS.get(f"{base.__module__.rpartition('.')[0]}.{base.__name__}")
        if rename is not None:
            return {rename(name): value for name, value in weights.items()}
    return dict(weights)
