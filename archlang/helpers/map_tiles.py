"""A map cut into tiles of queries and the keys near them."""

from collections.abc import Sequence

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.key_strips import key_strips
from archlang.helpers.offsets_in_tiles import offsets_in_tiles
from archlang.helpers.on_map import on_map
from archlang.helpers.seen_in_tiles import seen_in_tiles


class MapTiles:
    """Where the places of a map stand in tiles, by its axes: what attention to what is near needs of its sizes.

    queries: [tile, query]; strips of keys: [row, other], of which a tile takes `width`, `move` after those before it;
    home: the place of every position in all tiles; seen: bool [tile, 1, 1, query, key], all closer than `radius`;
    offsets [tile, query, key]: rows of a `table` of so many offsets along each axis.
    """

    def __init__(self, near: Sequence[AxisTiles], radius: int | None = None, table: Sequence[int] = ()) -> None:
        space, first = [tiles.size for tiles in near], near[0]
        self.queries, self.strips = on_map([tiles.queries for tiles in near], space), key_strips(near, space)
        self.width, self.move = first.width * self.strips.shape[1], first.tile * self.strips.shape[1]
        (tile, place), count = first.home, first.queries.shape[0]
        for tiles in near[1:]:
            tile = (tile[:, None] + tiles.home[0] * count).flatten()
            place, count = (place[:, None] * tiles.tile + tiles.home[1]).flatten(), count * tiles.queries.shape[0]
        self.home = tile * self.queries.shape[1] + place
        self.seen = seen_in_tiles(near, radius)
        self.offsets = offsets_in_tiles(near, table) if table else None
