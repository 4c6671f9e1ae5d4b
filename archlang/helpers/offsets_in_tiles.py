"""The offsets from queries to keys, in tiles of a map."""

from collections.abc import Sequence

from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.over_tiles import over_tiles


def offsets_in_tiles(near: Sequence[AxisTiles], table: Sequence[int]) -> Tensor:
    """[tile, query, key]: the row of the offset in a flattened table of so many along each axis, counted in steps from
    its middle.
    """
    places = []
    for tiles, size in zip(near, table, strict=True):
        offset = (tiles.keys[:, None] - tiles.queries[..., None]) // tiles.step + size // 2
        places.append(offset.clamp(0, size - 1))
    sizes = iter(table[1:])
    return over_tiles(places, lambda a, b: a * next(sizes) + b)
