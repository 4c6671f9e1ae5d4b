"""A bias for every offset between two places of a window, computed from the offset."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from archlang.helpers.offset_index import offset_index


class DynamicBias(nn.Module):
    """bias[head, i, j] = mlp(offset from place j to place i)[head], the mlp of layer norms, ReLUs and linear maps"""

    offsets: Tensor
    index: Tensor

    def __init__(self, window: Sequence[int], heads: int, hidden: int, depth: int = 2) -> None:
        super().__init__()
        units = [hidden] * depth + [heads]
        self.proj = nn.Linear(len(window), hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in units)
        self.layers = nn.ModuleList(nn.Linear(hidden, size) for size in units)
        reach = torch.meshgrid(*(torch.arange(1 - size, size) for size in window), indexing="ij")
        self.register_buffer("offsets", torch.stack(reach, -1).flatten(0, -2), persistent=False)
        self.register_buffer("index", offset_index(window), persistent=False)

    def forward(self) -> Tensor:
        x: Tensor = self.proj(self.offsets.to(self.proj.weight.dtype))
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = layer(norm(x).relu())
        return x.T[:, self.index]
