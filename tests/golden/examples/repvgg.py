"""RepVGG: Making VGG-style ConvNets Great Again (Ding et al., CVPR 2021)."""

import torch
import torch.nn.functional as F
from torch import nn


class ConvBn(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class ConvBn2(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class RepBlock(nn.Module):
    """A 3 x 3 and a 1 x 1 kernel in parallel, and x itself where it fits. For inference all of it is one kernel."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.point = ConvBn(in_dim, dim=dim)
        self.wide = ConvBn2(in_dim, dim=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.point(x) + self.wide(x)
        return F.relu(y)


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rep_block = RepBlock(6, dim=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rep_block(x)


class ConvBn3(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class ConvBn4(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class RepBlock2(nn.Module):
    """A 3 x 3 and a 1 x 1 kernel in parallel, and x itself where it fits. For inference all of it is one kernel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.point = ConvBn3(dim)
        self.wide = ConvBn4(dim)
        self.short = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.point(x) + self.wide(x)
        y = y + self.short(x)
        return F.relu(y)


class Block2(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rep_block = RepBlock2(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rep_block(x)


class Stage(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(dim), Block2(dim)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Repvgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = RepBlock(3, dim=6)
        self.stages = nn.ModuleList(Stage(dim) for dim in (6, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))
