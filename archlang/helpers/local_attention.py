"""Attention to what is near on a map."""

from collections.abc import Callable, Sequence

from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.fused_attention import fused_attention


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
    rank = len(near)
    across, inside = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    for axis, tiles in enumerate(near):
        q, k, v = tiles.cut(q, 2 * axis + 1), tiles.near(k, 2 * axis + 1), tiles.near(v, 2 * axis + 1)

    def laid(x: Tensor) -> Tensor:
        """[batch, (tiles, places) of each axis, heads, c] -> [tiles, batch, heads, places, c]"""
        x = x.permute(*across, 0, 2 * rank + 1, *inside, 2 * rank + 2)
        return x.flatten(rank + 2, -2).flatten(0, rank - 1)

    x = core(laid(q), laid(k), laid(v), mask, drop, scale=scale)
    x = x.reshape(*(tiles.keys.shape[0] for tiles in near), *x.shape[1:3], *(tiles.tile for tiles in near), x.shape[-1])
    x = x.permute(rank, *(at for axis in range(rank) for at in (axis, rank + 2 + axis)), rank + 1, 2 * rank + 2)
    for axis, tiles in enumerate(near):
        x = tiles.join(x, axis + 1)
    return x
