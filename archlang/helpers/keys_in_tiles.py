"""A mask of keys, in tiles of a map."""

from collections.abc import Sequence

from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles


def keys_in_tiles(mask: Tensor, near: Sequence[AxisTiles]) -> Tensor:
    """mask[batch, *map] as [tile, batch, 1, 1, key]."""
    rank = len(near)
    for axis, tiles in enumerate(near):
        mask = tiles.near(mask, 2 * axis + 1)
    mask = mask.permute(*range(1, 2 * rank, 2), 0, *range(2, 2 * rank + 1, 2))
    return mask.flatten(rank + 1).flatten(0, rank - 1)[:, :, None, None]
