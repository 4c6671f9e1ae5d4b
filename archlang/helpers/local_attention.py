"""Attention to what is near on a map."""

from collections.abc import Callable, Sequence

from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.fused_attention import fused_attention
from archlang.helpers.key_strips import key_strips
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
    what is seen or is a bias, [tiles, batch, heads, query, key]. Keys are copied in strips; those of a tile are a view.
    """
    space, first = q.shape[1:-2], near[0]
    queries, rows = on_map([tiles.queries for tiles in near], space), key_strips(near, space)
    width, move = first.width * rows.shape[1], first.tile * rows.shape[1]

    def taken(x: Tensor, index: Tensor) -> Tensor:
        """[batch, *map, heads, c] -> [places, batch, heads, c]"""
        return x.flatten(1, len(near)).transpose(0, 1).index_select(0, index.flatten())

    k, v = (taken(x, rows).unfold(0, width, move).mT for x in (k, v))
    x = core(taken(q, queries).unflatten(0, queries.shape).permute(0, 2, 3, 1, 4), k, v, mask, drop, scale=scale)
    (tile, place), count = first.home, first.queries.shape[0]
    for tiles in near[1:]:
        tile = (tile[:, None] + tiles.home[0] * count).flatten()
        place, count = (place[:, None] * tiles.tile + tiles.home[1]).flatten(), count * tiles.queries.shape[0]
    x = x.permute(0, 3, 1, 2, 4)
    out: Tensor = x.flatten(0, 1).index_select(0, tile * x.shape[1] + place).transpose(0, 1).unflatten(1, space)
    return out
