"""Who sees whom in tiles of a map."""

from collections.abc import Sequence

from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.over_tiles import over_tiles


def seen_in_tiles(near: Sequence[AxisTiles], radius: int | None = None) -> Tensor:
    """Which keys the queries of a tile see, all closer than `radius`: bool [tiles, 1, 1, query, key]."""
    mask = over_tiles([tiles.seen for tiles in near], lambda a, b: a & b)
    if radius is not None:
        offsets = [tiles.queries[..., None] - tiles.keys[:, None] for tiles in near]
        mask = mask & (over_tiles([offset.square() for offset in offsets], lambda a, b: a + b) < radius**2)
    return mask[:, None, None]
