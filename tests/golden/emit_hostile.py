"""A "net" with \\"\\"\\" quotes, {{ braces }}, {% blocks %} and a \\ backslash"""
# Made by archlang 0.1.0 from <string> (sha256 3cd071090969c01b): torch

from typing import Any

import torch
from torch import nn


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if not training or rate == 0:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    kept = torch.rand(shape, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1 - rate))


class Class(nn.Module):
    """x""\\" + __import__('os').system('true')"""

    def __init__(self, train_: int) -> None:
        super().__init__()
        self._parameters["type"] = nn.Parameter(torch.ones(8))
        self._modules["half"] = nn.Linear(8, 8)
        self._modules["forward"] = nn.Linear(8, train_)
        self._modules["to"] = nn.Linear(train_, 8)

    def forward(self, self_: torch.Tensor) -> torch.Tensor:
        type = self._parameters["type"]
        return self._modules["to"](self._modules["forward"](self._modules["half"](self_ * type * 0.5)))


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._modules["__init__"] = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._modules["__init__"](x)


class Torch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._modules["class"] = Class(8)
        self.steps = nn.ModuleList(Step() for _ in range(3))
        self._modules["def"] = Class(4)
        self._buffers["eval"] = torch.ones(8) * 2

    def forward(self, range: torch.Tensor, lambda_: torch.Tensor) -> torch.Tensor:
        if range.ndim != 3 or range.shape[2] != 8:
            raise ValueError(f"range must be [b, n, c = 8], and is {list(range.shape)}")
        if lambda_.ndim != 3 or lambda_.shape[2] != 8:
            raise ValueError(f"lambda must be [b, m, c = 8], and is {list(lambda_.shape)}")
        b = range.shape[0]
        if lambda_.shape[0] != b:
            raise ValueError(f"axis b of lambda must be b = {b}, and is {lambda_.shape[0]}")
        super = self._modules["class"](range)
        for step in self.steps:
            super = step(super)
        turn2 = self._modules["def"](super)
        eval = self._buffers["eval"]
        return drop_path(turn2 * eval * turn2, 0.5, self.training) @ lambda_.mT

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Step):
                module.compile(**options)
