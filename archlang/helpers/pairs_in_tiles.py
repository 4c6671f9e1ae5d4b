"""A bias or mask over pairs of positions, in tiles of a map."""

from collections.abc import Sequence

import torch
from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.over_tiles import over_tiles


def pairs_in_tiles(x: Tensor, near: Sequence[AxisTiles]) -> Tensor:
    """x[batch, head, *map, *map of keys] as [tile, batch, head, query, key]; it may have size 1 along an axis."""
    queries, keys = [tiles.queries[..., None] for tiles in near], [tiles.keys[:, None] for tiles in near]

    def along(axis: int, places: Sequence[Tensor]) -> Tensor:
        """The position along one axis, for every place of every tile."""
        own = [place if at == axis else torch.zeros_like(place) for at, place in enumerate(places)]
        return over_tiles(own, torch.add)

    index: list[Tensor] = [along(axis, places) for places in (queries, keys) for axis in range(len(near))]
    space = [tiles.size for tiles in near]
    x = x.expand(x.shape[0], x.shape[1], *space, *space)
    places: tuple[slice | Tensor, ...] = (slice(None), slice(None), *index)
    return x[places].permute(2, 0, 1, 3, 4)
