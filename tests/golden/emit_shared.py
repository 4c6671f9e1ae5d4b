# Made by archlang 0.1.0 from <string> (sha256 6d3e9b838b14f5db): net

from typing import Any

import torch
from torch import nn


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(8, 8)

    def forward(self, y: torch.Tensor, f: nn.Module) -> torch.Tensor:
        return self.own(f(y))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, f: nn.Module) -> torch.Tensor:
        return f(self.own(f(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(8, 8)
        self.steps = nn.ModuleList(Step() for _ in range(3))
        self.tied = Tied()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 3 or x.shape[2] != 8:
            raise ValueError(f"x must be [b, n, c = 8], and is {list(x.shape)}")
        for step in self.steps:
            x = step(x, self.f)
        return self.tied(x, self.f)

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Step):
                module.compile(**options)
