"""Free sizes."""
# Made by archlang 0.1.0 from <string> (sha256 98f81ad3befd7cd5): net

import torch
from torch import nn


class Down(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(4 * in_dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).transpose(2, 3).flatten(3))


class Stage(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.down = Down(in_dim, dim=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(in_dim, dim=dim) for in_dim, dim in zip((3, 8, 16), (8, 16, 24)))
        self.mem = nn.Linear(4, 24)

    def forward(self, image: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"image must be [b, c = 3, h, w], and is {list(image.shape)}")
        if memory.ndim != 4 or memory.shape[3] != 4:
            raise ValueError(f"memory must be [b, h = h // 2, w, c = 4], and is {list(memory.shape)}")
        b, _, h, w = image.shape
        if memory.shape[0] != b:
            raise ValueError(f"axis b of memory must be b = {b}, and is {memory.shape[0]}")
        if memory.shape[1] != h // 2:
            raise ValueError(f"axis h of memory must be h // 2 = {h // 2}, and is {memory.shape[1]}")
        if memory.shape[2] != w:
            raise ValueError(f"axis w of memory must be w = {w}, and is {memory.shape[2]}")
        if h < 16:
            raise ValueError(f'the {{image}} is "tall": h >= 16 must hold, and h = {h}')
        if h % 8 != 0:
            raise ValueError(f"h must be a multiple of 8, and h = {h}")
        if w % 8 != 0:
            raise ValueError(f"w must be a multiple of 8, and w = {w}")
        x = image.permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        y = self.mem(memory).mean((1, 2))
        return x * y[:, None, None]
