"""A wide residual network whose kernels, but that of the stem, all come from one generator."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class LoneBias(nn.Module):
    """The bias of a layer; starts at 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))


class KernelTile(nn.Module):
    """a_i = W_i z + B_i and K_i = W_out a_i + B_out for each channel i that a tile of a kernel reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 12)
        self.second = nn.Linear(3, 36)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        a = self.first(z).unflatten(-1, (4, 3))
        return self.second(a).unflatten(-1, (4, 3, 3))


class TiledConv(nn.Module):
    """A convolution with a kernel of tiles of side x side channels, each generated from an embedding of its own."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.randn(dim // 4, in_dim // 4, 3) * 0.01)
        self.conv = LoneBias(dim)

    def forward(self, x: torch.Tensor, generator: nn.Module) -> torch.Tensor:
        weight = generator(self.z).permute(1, 2, 0, 3, 4, 5).flatten(0, 1).flatten(1, 2).transpose(0, 1)
        return F.conv2d(x, weight, self.conv.bias, padding=1)


class Unit(nn.Module):
    """Norm, relu and convolution, twice; the shortcut keeps some positions and adds channels of zeros."""

    def __init__(self, in_dim: int, dim: int, pad: int) -> None:
        super().__init__()
        self.pad = pad
        self.norm1 = nn.BatchNorm2d(in_dim)
        self.conv1 = TiledConv(in_dim, dim=dim)
        self.norm2 = nn.BatchNorm2d(dim)
        self.conv2 = TiledConv(dim, dim=dim)

    def forward(self, x: torch.Tensor, generator: nn.Module) -> torch.Tensor:
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x)), generator))), generator)
        return y + F.pad(x, (0, 0, 0, 0, 0, self.pad))


class Unit3(nn.Module):
    def __init__(self, dim: int, dim2: int, pad: int) -> None:
        super().__init__()
        self.unit = Unit(dim, dim=dim2, pad=pad)

    def forward(self, x: torch.Tensor, generator: nn.Module) -> torch.Tensor:
        return self.unit(x, generator)


class Group(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.units = nn.ModuleList(Unit3(dim, dim2=8, pad=pad) for dim, pad in zip((4, 8), (4, 0)))

    def forward(self, x: torch.Tensor, generator: nn.Module) -> torch.Tensor:
        for unit in self.units:
            x = unit(x, generator)
        return x


class TiledConv2(nn.Module):
    """A convolution with a kernel of tiles of side x side channels, each generated from an embedding of its own."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.randn(in_dim // 2, in_dim // 4, 3) * 0.01)
        self.conv = LoneBias(dim)

    def forward(self, x: torch.Tensor, generator: nn.Module) -> torch.Tensor:
        weight = generator(self.z).permute(1, 2, 0, 3, 4, 5).flatten(0, 1).flatten(1, 2).transpose(0, 1)
        return F.conv2d(x, weight, self.conv.bias, stride=2, padding=1)


class Unit2(nn.Module):
    """Norm, relu and convolution, twice; the shortcut keeps some positions and adds channels of zeros."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.norm1 = nn.BatchNorm2d(in_dim)
        self.conv1 = TiledConv2(in_dim, dim=dim)
        self.norm2 = nn.BatchNorm2d(dim)
        self.conv2 = TiledConv(dim, dim=dim)

    def forward(self, x: torch.Tensor, generator: nn.Module) -> torch.Tensor:
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x)), generator))), generator)
        return y + F.pad(x[:, :, ::2][..., ::2], (0, 0, 0, 0, 0, self.in_dim))


class Unit4(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.unit = Unit2(dim, dim=2 * dim)

    def forward(self, x: torch.Tensor, generator: nn.Module) -> torch.Tensor:
        return self.unit(x, generator)


class Group2(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.units = nn.ModuleList([Unit4(dim), Unit3(2 * dim, dim2=2 * dim, pad=0)])

    def forward(self, x: torch.Tensor, generator: nn.Module) -> torch.Tensor:
        for unit in self.units:
            x = unit(x, generator)
        return x


class HyperResnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem_conv = nn.Conv2d(3, 4, 3, padding=1)
        self.generator = KernelTile()
        self.groups = nn.ModuleList([Group(), *(Group2(dim) for dim in (8, 16))])
        self.norm = nn.BatchNorm2d(32)
        self.head = nn.Linear(32, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 8, 8):
            raise ValueError(f"image must be [b, c = 3, h = 8, w = 8], and is {list(image.shape)}")
        x = self.stem_conv(image)
        for group in self.groups:
            x = group(x, self.generator)
        return self.head(F.relu(self.norm(x)).mean((2, 3)))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, (KernelTile, TiledConv)):
                module.compile(**options)
