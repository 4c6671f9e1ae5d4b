"""ConvNeXt: A ConvNet for the 2020s (Liu et al., CVPR 2022)."""

import torch
import torch.nn.functional as F
from torch import nn


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if not training or rate == 0:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    kept = torch.rand(shape, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1 - rate))


class LayerScale(nn.Module):
    """y = gamma x over the last axes."""

    def __init__(self, *shape: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class ConvnextBlock(nn.Module):
    """Depthwise 7x7, norm, MLP, layer scale (Liu et al., CVPR 2022)."""

    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)
        self.scale = LayerScale(dim, init=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.scale(self.fc2(F.gelu(self.fc1(self.norm(self.depthwise(x).permute(0, 2, 3, 1))))))
        return x + drop_path(y, self.drop_path, self.training).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, drop_path: float, dim: int) -> None:
        super().__init__()
        self.convnext_block = ConvnextBlock(dim, drop_path=drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.convnext_block(x)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(0.0, dim=8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.down = nn.Conv2d(8, 16, 2, stride=2)
        self.blocks = nn.ModuleList(Block(drop_path, dim=16) for drop_path in (0.05, 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        for block in self.blocks:
            x = block(x)
        return x


class Convnext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.stem_norm = nn.LayerNorm(8, eps=1e-6)
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.stem_norm(self.stem(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x.mean((2, 3))))
