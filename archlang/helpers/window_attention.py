"""Attention inside windows of a map."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from archlang.helpers.short_attention import short_attention


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Sequence[int],
    shift: Sequence[int] | None = None,
    step: Sequence[int] | None = None,
    spread: bool = False,
    bias: Tensor | None = None,
    border: Tensor | None = None,
    scale: float | None = None,
    drop: float = 0.0,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
    core: Callable[..., Tensor] = short_attention,
) -> Tensor:
    """Attention inside each window of q, k, v: [batch, *map, heads, c], each of which may lack batch and heads. `shift`
    moves the windows, the places of one are `step` apart, or `spread` over the map. `border` keeps apart what the shift
    wrapped, beside a `bias` [.., heads, query, key], which may have batch and windows before. `mask` [batch, *map,
    heads] says which keys are there, `segments` [batch, *map, heads] in which document each place is.
    """
    rank, space = len(window), q.shape[1:-2]
    steps = [size // side for size, side in zip(space, window, strict=True)] if spread else step or [1] * rank
    counts = [size // (side * gap) for size, side, gap in zip(space, window, steps, strict=True)]
    sizes = [size for axis in zip(counts, window, steps, strict=True) for size in axis]
    axes = list(range(1, rank + 1))
    outer = [at for axis in range(rank) for at in (3 * axis + 1, 3 * axis + 3)]
    inner = [3 * axis + 2 for axis in range(rank)]

    def cut(x: Tensor) -> Tensor:
        """[batch, *map, heads, c] -> [batch, windows, heads, places, c]"""
        if shift is not None:
            x = x.roll([-move for move in shift], axes)
        x = x.reshape(x.shape[0], *sizes, *x.shape[-2:])
        x = x.permute(0, *outer, 3 * rank + 1, *inner, 3 * rank + 2)
        return x.flatten(2 * rank + 2, -2).flatten(1, 2 * rank)

    def places(x: Tensor) -> Tensor:
        """[batch, *map, heads] -> [batch, windows, heads, places, 1]"""
        return cut(x.expand(-1, *space, -1)[..., None])

    if border is not None:
        bias = border if bias is None else bias + border
    if mask is not None:
        bias = torch.where(places(mask).mT, 0.0 if bias is None else bias, float("-inf")).to(q.dtype)
    if segments is not None:
        own = places(segments)
        bias = torch.where(own == own.mT, 0.0 if bias is None else bias, float("-inf")).to(q.dtype)
    x = core(cut(q), cut(k), cut(v), bias, drop, scale=scale)
    batch, heads = x.shape[0], x.shape[2]
    x = x.reshape(batch, *(sizes[at - 1] for at in outer), heads, *window, x.shape[-1])
    order = [at for axis in range(rank) for at in (2 * axis + 1, 2 * rank + 2 + axis, 2 * axis + 2)]
    x = x.permute(0, *order, 2 * rank + 1, 3 * rank + 2).reshape(batch, *space, heads, x.shape[-1])
    return x if shift is None else x.roll(list(shift), axes)
