"""A mask of keys, in tiles of a map."""

from collections.abc import Sequence

from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.on_map import on_map


def keys_in_tiles(mask: Tensor, near: Sequence[AxisTiles]) -> Tensor:
    """mask[batch, *map] as [tile, batch, 1, 1, key]."""
    keys = on_map([tiles.keys for tiles in near], mask.shape[1:])
    return mask.flatten(1)[:, keys].transpose(0, 1)[:, :, None, None]
