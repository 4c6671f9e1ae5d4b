"""Attention to what is near on a map."""

from collections.abc import Callable, Sequence

from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.fused_attention import fused_attention
from archlang.helpers.on_map import on_map


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    near: Sequence[AxisTiles],
    mask: Tensor,
    scale: float | None = None,
    drop: float = 0.0,
    core: Callable[..., Tensor] = fused_attention,
) -> Tensor:
    """Attention of q, k, v: [batch, *map, heads, c] in tiles of the map: queries beside the keys near them. `mask` says
    what is seen or is a bias, [tiles, batch, heads, query, key].
    """
    rank, space = len(near), q.shape[1:-2]

    def cut(x: Tensor, index: Tensor) -> Tensor:
        """[batch, *map, heads, c] -> [tiles, batch, heads, places, c], copied once"""
        x = x.flatten(1, rank).transpose(0, 1).index_select(0, index.flatten())
        return x.view(*index.shape, *x.shape[1:]).permute(0, 2, 3, 1, 4)

    queries, keys = (on_map(places, space) for places in ([t.queries for t in near], [t.keys for t in near]))
    x = core(cut(q, queries), cut(k, keys), cut(v, keys), mask, drop, scale=scale)
    tile = on_map([t.home[0] for t in near], [t.queries.shape[0] for t in near])
    place = on_map([t.home[1] for t in near], [t.tile for t in near])
    x = x.permute(0, 3, 1, 2, 4)
    index = (tile * x.shape[1] + place).flatten()
    out: Tensor = x.flatten(0, 1).index_select(0, index).transpose(0, 1).unflatten(1, space)
    return out
