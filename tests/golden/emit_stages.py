"""A small net of stages."""
# Made by archlang 0.1.0 from <string> (sha256 f4ae52a62c14e962): net

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Mlp(nn.Module):
    """Two layers."""

    def __init__(self, dim: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.dropout(F.gelu(self.fc1(x)), self.drop, self.training))


class Mixer(nn.Module):
    def __init__(self, dim: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        z = self.proj(y)
        return x + F.dropout(y * z, self.drop, self.training)


class Block(nn.Module):
    def __init__(self, drop: float, dim: int) -> None:
        super().__init__()
        self.mlp = Mlp(dim, drop=drop)
        self.mixer = Mixer(dim, drop=drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mlp(x)
        return self.mixer(x)


class Stage(nn.Module):
    def __init__(self, dim: int, drops: tuple[float, ...]) -> None:
        super().__init__()
        self.up = nn.Linear(16, dim)
        self.blocks = nn.ModuleList(Block(drop, dim=dim) for drop in drops)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        for block in self.blocks:
            x = block(x)
        return x


class Out(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.side = nn.Linear(dim, 32)

    def forward(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x + self.side(skip)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 16)
        self.stages = nn.ModuleList(
            Stage(dim, drops=drops) for dim, drops in zip((16, 32), ((0.0,), (0.0625, 0.125, 0.1875)))
        )
        self.outs = nn.ModuleList(Out(dim) for dim in (16, 32))
        self.head = nn.Linear(32, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 3 or tokens.shape[2] != 8:
            raise ValueError(f"tokens must be [b, n, c = 8], and is {list(tokens.shape)}")
        x = self.stem(tokens)
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        for out, skip in zip(self.outs, skips):
            x = out(skip, x)
        return self.head(x.mean(1))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Block):
                module.compile(**options)
