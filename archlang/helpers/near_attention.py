"""Attention to what is near on a map, in one call."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from archlang.helpers.fused_attention import fused_attention
from archlang.helpers.keys_in_tiles import keys_in_tiles
from archlang.helpers.local_attention import local_attention
from archlang.helpers.map_tiles import MapTiles
from archlang.helpers.near_axis import NearAxis
from archlang.helpers.offset_bias import offset_bias
from archlang.helpers.scored_attention import scored_attention
from archlang.helpers.segments_in_tiles import segments_in_tiles


def near_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    near: Sequence[NearAxis],
    table: Tensor | None = None,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
    radius: int | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Attention of q [batch, *map, heads, c] to the keys that are `near` along every axis and closer than `radius`; k
    and v may have fewer heads. `table` [heads, *offsets] is a bias for every offset of a key, `mask` [batch, *map] says
    which keys are there, `segments` [batch, *map] the document of each place; `cap` bounds the scaled products, `sink`
    [heads, 1, 1] is one more logit to be divided by; a `score` stands for softmax.
    """
    k, v = (x if x.shape[-2] == 1 else x.repeat_interleave(q.shape[-2] // x.shape[-2], -2) for x in (k, v))
    shape = torch.broadcast_shapes(*(x.shape[:-1] for x in (q, k, v)))
    q, k, v = (x.expand(*shape, x.shape[-1]) for x in (q, k, v))
    axes = [axis.tiles(size, q.device) for axis, size in zip(near, q.shape[1:-2], strict=True)]
    tiles = MapTiles(axes, radius, () if table is None else table.shape[1:])
    seen = tiles.seen
    if mask is not None:
        seen = seen & keys_in_tiles(mask, axes)
    if segments is not None:
        seen = seen & segments_in_tiles(segments, axes)
    if table is not None and tiles.offsets is not None:
        seen = torch.where(seen, offset_bias(table[None], tiles.offsets), float("-inf"))
    plain = cap is None and sink is None and score is None
    core = fused_attention if plain else partial(scored_attention, score=score, cap=cap, sink=sink)
    return local_attention(q, k, v, tiles, seen, scale, core=core)
