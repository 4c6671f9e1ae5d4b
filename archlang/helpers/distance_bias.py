"""A learned bias for every distance between two places of a window."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn


class DistanceBias(nn.Module):
    """bias[head, i, j] = weight[row of the distances of places i and j along each axis, head]"""

    index: Tensor

    def __init__(self, window: Sequence[int], heads: int) -> None:
        super().__init__()
        index = torch.zeros(1, 1, dtype=torch.long)
        for size in window:
            apart = (torch.arange(size)[:, None] - torch.arange(size)).abs()
            index = index[:, None, :, None] * size + apart[:, None]
            index = index.flatten(0, 1).flatten(1)
        self.weight = nn.Parameter(torch.zeros(prod(window), heads))
        self.register_buffer("index", index, persistent=False)

    def forward(self) -> Tensor:
        return self.weight.T[:, self.index]
