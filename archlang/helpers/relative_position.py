"""A learned bias for every offset between two places of a window."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn


class RelativePosition(nn.Module):
    """bias[head, i, j] = weight[row of the offset from place j to place i, head]"""

    index: Tensor

    def __init__(self, window: Sequence[int], heads: int) -> None:
        super().__init__()
        offsets = [torch.arange(size)[:, None] - torch.arange(size) + size - 1 for size in window]
        index = torch.zeros(1, 1, dtype=torch.long)
        for size, offset in zip(window, offsets, strict=True):
            index = index[:, None, :, None] * (2 * size - 1) + offset[:, None]
            index = index.flatten(0, 1).flatten(1)
        rows = prod(2 * size - 1 for size in window)
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, heads), std=0.02))
        self.register_buffer("index", index, persistent=False)

    def forward(self) -> Tensor:
        return self.weight.T[:, self.index]
