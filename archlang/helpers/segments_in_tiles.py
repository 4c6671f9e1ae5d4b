"""Documents, in tiles of a map."""

from collections.abc import Sequence

from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.on_map import on_map


def segments_in_tiles(segments: Tensor, near: Sequence[AxisTiles]) -> Tensor:
    """Which keys are of the document of a query, [tile, batch, 1, query, key], for segments [batch, *map]."""
    space = [tiles.size for tiles in near]
    flat = segments.expand(-1, *space).flatten(1)
    queries, keys = on_map([tiles.queries for tiles in near], space), on_map([tiles.keys for tiles in near], space)
    return (flat[:, queries][..., None] == flat[:, keys][..., None, :]).transpose(0, 1)[:, :, None]
