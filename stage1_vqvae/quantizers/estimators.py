"""How gradients pass a step that has none: from the quantized vectors to the encoder's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Estimator = Literal["straight_through", "rotation"]
"""Names of the estimators."""

TINY = 1e-6
"""Length under which a vector has no direction."""


def straight_through(z: Tensor, quantized: Tensor) -> Tensor:
    """``quantized`` in value, the identity in gradient (arXiv 1711.00937, section 3.1).

    Args:
        z: The encoder's vectors, ``[B, D, *spatial]``.
        quantized: What they became, of the same shape.
    """
    # z - z is exactly 0, so that the value is the codebook's to the bit.
    return quantized.detach() + (z - z.detach())


def rotation(z: Tensor, quantized: Tensor) -> Tensor:
    """``quantized`` in value; in gradient the rotation and rescaling that take z there (arXiv 2410.06424).

    With ``R`` the rotation of z onto q in their plane and ``λ = |q| / |z|``, q is ``λ R z``, and both count as
    constant: the gradient keeps its angle to the vector instead of its direction.

    Args:
        z: The encoder's vectors, ``[B, D, *spatial]``.
        quantized: What they became, of the same shape.
    """
    with torch.no_grad():
        z_norm = z.norm(dim=1, keepdim=True)
        q_norm = quantized.norm(dim=1, keepdim=True)
        from_z = z / z_norm.clamp(min=TINY)
        to_q = quantized / q_norm.clamp(min=TINY)
        between = from_z + to_q
        between = between / between.norm(dim=1, keepdim=True).clamp(min=TINY)  # opposite vectors: only scaled
        scale = torch.where(z_norm > TINY, q_norm / z_norm.clamp(min=TINY), 1)  # a z of length 0 has no direction
    # A product of two reflections, applied without its matrix (the paper's equation 4).
    reflected = z - 2 * (between * z).sum(1, keepdim=True) * between
    rotated = reflected + 2 * (from_z * z).sum(1, keepdim=True) * to_q
    return straight_through(rotated * scale, quantized)


def index_straight_through(shares: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """``codebook[codes]`` in value; in gradient the mixture of all codes (arXiv 1611.01144, section 2.2; 2412.02692).

    The one-hot index is the hard one in value and the soft one, ``shares``, in gradient. The codebook's own gradient
    is that of the hard index. No one-hot matrix is held.

    Args:
        shares: Of each code, ``[N, K]``.
        codes: int64 ``[N]``.
        codebook: ``[K, D]``.

    Returns:
        ``[N, D]``.
    """
    mixed = shares @ codebook.detach()
    return F.embedding(codes, codebook) + (mixed - mixed.detach())


ESTIMATORS: Mapping[Estimator, Callable[[Tensor, Tensor], Tensor]] = {
    "straight_through": straight_through,
    "rotation": rotation,
}
"""Each by its name."""
