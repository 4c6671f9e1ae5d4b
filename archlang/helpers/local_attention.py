"""Attention to what is near on a map."""

from collections.abc import Callable

from torch import Tensor

from archlang.helpers.fixed_tiles import FixedTiles
from archlang.helpers.fused_attention import fused_attention
from archlang.helpers.map_tiles import MapTiles


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tiles: MapTiles | FixedTiles,
    mask: Tensor,
    scale: float | None = None,
    drop: float = 0.0,
    core: Callable[..., Tensor] = fused_attention,
) -> Tensor:
    """Attention of q, k, v: [batch, *map, heads, c] in tiles of the map: queries beside the keys near them. `mask` says
    what is seen or is a bias, [tiles, batch, heads, query, key]. Keys are copied in strips; those of a tile are a view.
    """
    space = q.shape[1:-2]

    def taken(x: Tensor, index: Tensor) -> Tensor:
        """[batch, *map, heads, c] -> [places, batch, heads, c]"""
        return x.flatten(1, len(space)).transpose(0, 1).index_select(0, index.flatten())

    k, v = (taken(x, tiles.strips).unfold(0, tiles.width, tiles.move).mT for x in (k, v))
    q = taken(q, tiles.queries).unflatten(0, tiles.queries.shape).permute(0, 2, 3, 1, 4)
    x = core(q, k, v, mask, drop, scale=scale).permute(0, 3, 1, 2, 4)
    out: Tensor = x.flatten(0, 1).index_select(0, tiles.home).transpose(0, 1).unflatten(1, space)
    return out
