"""A bias for every offset from a query to a key, in tiles of a map."""

from collections.abc import Sequence

from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.over_tiles import over_tiles


def offset_bias(table: Tensor, near: Sequence[AxisTiles]) -> Tensor:
    """bias[tile, batch, head, i, j] = table[batch, head, *(j - i)], counted in steps from the middle of the table."""
    places = []
    for tiles, size in zip(near, table.shape[2:], strict=True):
        offset = (tiles.keys[:, None] - tiles.queries[..., None]) // tiles.step + size // 2
        places.append(offset.clamp(0, size - 1))
    sizes = iter(table.shape[3:])
    index = over_tiles(places, lambda a, b: a * next(sizes) + b)
    return table.flatten(2)[:, :, index].permute(2, 0, 1, 3, 4)
