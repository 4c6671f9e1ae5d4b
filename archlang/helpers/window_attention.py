"""Attention inside windows of a map."""

from collections.abc import Sequence

import torch
from torch import Tensor


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Sequence[int],
    shift: Sequence[int] | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    drop: float = 0.0,
) -> Tensor:
    """softmax(scale * q k^T + bias) v inside each window of q, k, v: [batch, *map, heads, c]; `shift` moves the
    windows.
    """
    rank, batch, space, heads = len(window), q.shape[0], q.shape[1:-2], q.shape[-2]
    counts = [size // side for size, side in zip(space, window, strict=True)]
    across, inside = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    axes = list(range(1, rank + 1))

    def cut(x: Tensor) -> Tensor:
        """[batch, *map, heads, c] -> [batch, windows, heads, places, c]"""
        if shift is not None:
            x = x.roll([-step for step in shift], axes)
        x = x.reshape(batch, *(n for pair in zip(counts, window, strict=True) for n in pair), heads, x.shape[-1])
        x = x.permute(0, *across, 2 * rank + 1, *inside, 2 * rank + 2).flatten(-rank - 1, -2)
        return x.flatten(1, rank)

    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = cut(q), cut(k), cut(v)
    weights = q @ k.mT * scale if bias is None else torch.add(bias, q @ k.mT, alpha=scale)
    weights = weights.softmax(-1)
    x = (torch.dropout(weights, drop, True) if drop > 0 else weights) @ v
    x = x.reshape(batch, *counts, heads, *window, x.shape[-1])
    order = [axis for pair in zip(range(1, rank + 1), range(rank + 2, 2 * rank + 2), strict=True) for axis in pair]
    x = x.permute(0, *order, rank + 1, 2 * rank + 2).reshape(batch, *space, heads, x.shape[-1])
    return x if shift is None else x.roll(list(shift), axes)
