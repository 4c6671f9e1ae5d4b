"""A learned bias for every offset between two places of a window."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from archlang.helpers.offset_index import offset_index


class RelativePosition(nn.Module):
    """bias[head, i, j] = weight[row of the offset from place j to place i, head]"""

    index: Tensor

    def __init__(self, window: Sequence[int], heads: int, table: Sequence[int] | None = None) -> None:
        super().__init__()
        rows = prod(2 * size - 1 for size in table or window)
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, heads), std=0.02))
        self.register_buffer("index", offset_index(window, table), persistent=False)

    def forward(self) -> Tensor:
        return self.weight.T[:, self.index]
