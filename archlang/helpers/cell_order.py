"""The order of a map in which the places of a cell follow one another."""

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_order(
    space: Sequence[int], cell: Sequence[int], shift: Sequence[int] | None = None, step: Sequence[int] | None = None
) -> Tensor:
    """Which place of the flattened map comes at each place: cell after cell, in each place after place. `shift` moves
    the cells, whose places are `step` apart.
    """
    rank, order = len(space), torch.arange(1)
    for axis, (size, side) in enumerate(zip(space, cell, strict=True)):
        gap = step[axis] if step else 1
        order = order[..., None] * size + torch.arange(size).roll(-shift[axis] if shift else 0)
        order = order.unflatten(-1, (size // (side * gap), side, gap))
    outer = [at for axis in range(rank) for at in (3 * axis + 1, 3 * axis + 3)]
    return order.permute(0, *outer, *range(2, 3 * rank, 3)).flatten()
