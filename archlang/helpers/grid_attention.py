"""Attention over a grid of a map."""

from collections.abc import Sequence

import torch
from torch import Tensor


def grid_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grid: Sequence[int],
    bias: Tensor | None = None,
    scale: float | None = None,
    drop: float = 0.0,
) -> Tensor:
    """softmax(scale * q k^T + bias) v among the positions of q, k, v: [batch, *map, heads, c] that a grid of equal
    steps holds.
    """
    rank, batch, space, heads = len(grid), q.shape[0], q.shape[1:-2], q.shape[-2]
    steps = [size // side for size, side in zip(space, grid, strict=True)]
    inside, across = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)

    def cut(x: Tensor) -> Tensor:
        """[batch, *map, heads, c] -> [batch, grids, heads, places, c]"""
        x = x.reshape(batch, *(n for pair in zip(grid, steps, strict=True) for n in pair), heads, x.shape[-1])
        x = x.permute(0, *across, 2 * rank + 1, *inside, 2 * rank + 2).flatten(-rank - 1, -2)
        return x.flatten(1, rank)

    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = cut(q), cut(k), cut(v)
    weights = q @ k.mT * scale if bias is None else torch.add(bias, q @ k.mT, alpha=scale)
    weights = weights.softmax(-1)
    x = (torch.dropout(weights, drop, True) if drop > 0 else weights) @ v
    x = x.reshape(batch, *steps, heads, *grid, x.shape[-1])
    order = [axis for pair in zip(range(rank + 2, 2 * rank + 2), range(1, rank + 1), strict=True) for axis in pair]
    return x.permute(0, *order, rank + 1, 2 * rank + 2).reshape(batch, *space, heads, x.shape[-1])
