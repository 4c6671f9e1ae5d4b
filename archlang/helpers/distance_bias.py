"""A learned bias for every distance between two places of a window."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn


class DistanceBias(nn.Module):
    """bias[head, i, j] = weight[row of the distances of places i and j along each axis, head]"""

    index: Tensor

    def __init__(self, window: Sequence[int], heads: int, keys: Sequence[int] | None = None) -> None:
        super().__init__()
        index = torch.zeros(1, 1, dtype=torch.long)
        sizes = [(query, key, max(query, key)) for query, key in zip(window, keys or window, strict=True)]
        for query, key, size in sizes:
            apart = (torch.arange(query)[:, None] * (size // query) - torch.arange(key) * (size // key)).abs()
            index = index[:, None, :, None] * size + apart[:, None]
            index = index.flatten(0, 1).flatten(1)
        self.weight = nn.Parameter(torch.zeros(prod(size for _, _, size in sizes), heads))
        self.register_buffer("index", index, persistent=False)

    def forward(self) -> Tensor:
        return self.weight.T[:, self.index]
