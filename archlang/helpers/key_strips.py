"""The keys of a map in strips that tiles cut windows from."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.on_map import on_map


def key_strips(near: Sequence[AxisTiles], space: Sequence[int]) -> Tensor:
    """Positions of a flattened map [row, others]: row by row along the first axis, strip after strip, those of the
    other axes that a tile needs. The keys of tile n are the `width` rows from row n * tile on; what they have of the
    next strip, nobody sees.
    """
    along, device = near[0], near[0].keys.device
    others = on_map([tiles.keys for tiles in near[1:]], space[1:]) if len(near) > 1 else along.keys.new_zeros(1, 1)
    length, count = along.line * along.tile, others.shape[0] * along.step
    row = torch.arange(count * length + along.width - along.tile, device=device) - along.lead
    strip = (row // length).clamp(0, count - 1)
    place = ((row - strip * length) * along.step + strip % along.step).clamp(0, along.size - 1)
    return place[:, None] * prod(space[1:]) + others[strip // along.step]
