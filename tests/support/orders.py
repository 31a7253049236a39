"""A transformer in another order, by brute force."""

import copy

import torch

from stage2_prior.transformer.rope import AXES, coordinates, rope


def reordered(model, order):
    """A transformer whose raster order is an order of another one's positions: its places are moved, nothing else.

    Args:
        model: The other one.
        order: Its positions, a list; the grids stay one after another.
    """
    other = copy.deepcopy(model)
    places = coordinates(model.layout)[order]
    axes, dim = max(map(len, model.layout.grids)), 2 * model.query_rope.shape[-1]
    other.query_rope = rope(places, axes, dim)
    other.key_rope = rope(torch.cat([torch.full((1, AXES), -1.0), places[:-1]]), axes, dim)
    other.position.weight.data = model.position.weight.data[order]
    return other
