"""A bias or mask over pairs of positions, inside the cells of a partition."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pairs_in_cells(
    x: Tensor,
    space: Sequence[int],
    window: Sequence[int],
    shift: Sequence[int] | None = None,
    step: Sequence[int] | None = None,
    spread: bool = False,
) -> Tensor:
    """x[batch, head, *map, *map of keys] as [batch, cell, head, query, key], for cells as `window_attention` cuts them;
    it may have size 1 along an axis.
    """
    places, rank = torch.zeros(1, 1, dtype=torch.long, device=x.device), len(window)
    for axis, (size, side) in enumerate(zip(space, window, strict=True)):
        gap = size // side if spread else 1 if step is None else step[axis]
        own = torch.arange(size, device=x.device).roll(0 if shift is None else -shift[axis])
        own = own.view(-1, side, gap).mT.flatten(0, 1)
        places = (places[:, None, :, None] * size + own[:, None]).flatten(0, 1).flatten(1)
    x = x.expand(*x.shape[:2], *space, *space).flatten(-rank).flatten(2, -2)
    return x[:, :, places[:, :, None], places[:, None]].transpose(1, 2)
