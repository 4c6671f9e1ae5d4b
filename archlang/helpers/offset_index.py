"""Rows of a table that has one for every offset between two places of a window."""

from collections.abc import Sequence

import torch
from torch import Tensor


def offset_index(window: Sequence[int], table: Sequence[int] | None = None) -> Tensor:
    """index[i, j]: the row of the offset from place j to place i, the first axis the slowest, in the table of a window
    as large or larger.
    """
    index = torch.zeros(1, 1, dtype=torch.long)
    for size, most in zip(window, table or window, strict=True):
        offset = torch.arange(size)[:, None] - torch.arange(size) + most - 1
        index = index[:, None, :, None] * (2 * most - 1) + offset[:, None]
        index = index.flatten(0, 1).flatten(1)
    return index
