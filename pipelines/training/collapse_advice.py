"""What to try when a tokenizer ended with a collapsed codebook: almost all images are written with a few codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stage1_vqvae.codes import CodeLayout

COLLAPSED = 0.05
"""A codebook of which a smaller share is in use than could be has collapsed."""


def collapsed(metrics: Mapping[str, float], layout: CodeLayout, images: int) -> bool:
    """Whether a codebook has collapsed, by the ``usage`` of each on so many held-out images.

    Few images cannot use a large codebook: what is in use is compared with as many codes as they have places.
    """
    names = ["usage"] if len(layout.grids) == 1 else [f"usage_{grid}" for grid in range(len(layout.grids))]
    sizes = zip(names, layout.codebook_sizes, layout.lengths, strict=True)
    return any(metrics[name] * size < COLLAPSED * min(size, images * length) for name, size, length in sizes)


def advice(stage: Mapping[str, Any]) -> str:
    """Three settings to try, in a line.

    Args:
        stage: ``stage1`` of the settings.
    """
    first, second, third = list(_ideas(stage))[:3]
    return f"the codebook collapsed: try {first}, {second}, or {third}, each with another output="


def _ideas(stage: Mapping[str, Any]) -> Iterator[str]:
    """Settings that help, those first that do so most often."""
    quantizer: Mapping[str, Any] = stage.get("quantizer") or {}
    kind = str(quantizer.get("_target_", "")).rpartition(".")[2]
    if kind and kind != "FSQ":
        yield "stage1/quantizer=fsq (which has no codebook that could collapse)"
    if kind and quantizer.get("metric") != "cosine":
        yield "stage1/quantizer=cosine (which searches in few dimensions)"
    if kind and isinstance(quantizer.get("codebook_size"), int):
        yield f"stage1.quantizer.codebook_size={max(quantizer['codebook_size'] // 4, 2)} (fewer codes)"
    for level, node in (stage.get("levels") or {}).items():
        if isinstance(node, Mapping) and isinstance(node.get("codebook_size"), int):
            yield f"stage1.levels.{level}.codebook_size={max(node['codebook_size'] // 4, 2)} (fewer codes)"
    rate, steps = stage["optimization"].get("learning_rate"), stage["trainer"]["max_steps"]
    if isinstance(rate, int | float):
        yield f"stage1.optimization.learning_rate={rate / 3:.2g} (slower)"
    yield f"stage1.trainer.max_steps={2 * steps} (longer)"
    yield "more images"
