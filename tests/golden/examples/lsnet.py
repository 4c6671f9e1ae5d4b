"""LSNet: See Large, Focus Small (Wang et al., CVPR 2025)."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
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


def short_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, drop: float = 0.0, scale: float | None = None
) -> Tensor:
    """softmax(scale * q k^T + bias) v of [.., places, c], written out: with few keys faster than the fused kernel on a
    CPU.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = q @ k.mT * scale if bias is None else torch.add(bias, q @ k.mT, alpha=scale)
    weights = weights.softmax(-1)
    return (torch.dropout(weights, drop, True) if drop > 0 else weights) @ v


class ConvBn(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class ConvBn2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class DepthwiseBn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16, bias=False)
        self.bn = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class ConvBn3(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class DepthwiseBn2(nn.Module):
    def __init__(self, dim: int, kernel: int, conv2: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, kernel, padding=conv2, groups=dim, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class DepthwiseBn3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 1, groups=16, bias=False)
        self.bn = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class SmallConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = DepthwiseBn2(16, kernel=3, conv2=1)
        self.conv1 = DepthwiseBn3()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.conv1(x) + x


class SqueezeExcite(nn.Module):
    """A gate for each channel, from the mean of the map (Hu et al., CVPR 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(16, 4)
        self.fc2 = nn.Linear(4, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))[..., None, None]


class ConvBn4(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class Ffn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pw1 = ConvBn4(16, dim=32)
        self.pw2 = ConvBn3(32, dim=16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pw2(self.pw1(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mixer = SmallConv()
        self.se = SqueezeExcite()
        self.ffn = Ffn()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.se(self.mixer(x))
        return x + self.ffn(x)


class LargeSmallConv(nn.Module):
    """A wide depthwise filter sees what a small kernel does at each position; `share` channels have one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1 = ConvBn4(16, dim=8)
        self.cv2 = DepthwiseBn2(8, kernel=7, conv2=3)
        self.cv3 = ConvBn4(8, dim=8)
        self.cv4 = nn.Conv2d(8, 18, 1)
        self.norm = nn.GroupNorm(2, 18)
        self.bn = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.norm(self.cv4(self.cv3(self.cv2(self.cv1(x)))))
        weight = seen.unflatten(1, (2, -1))
        patch = F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)
        patch = patch.flatten(4).unflatten(1, (-1, 2))
        return x + self.bn(torch.einsum("bcghwt,bgthw->bcghw", patch, weight).flatten(1, 2))


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mixer = LargeSmallConv()
        self.ffn = Ffn()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.mixer(x)
        return x + self.ffn(x)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = DepthwiseBn()
        self.widen = ConvBn3(16, dim=16)
        self.blocks = nn.ModuleList([Block(), Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.widen(self.down(x))
        for block in self.blocks:
            x = block(x)
        return x


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = DepthwiseBn()
        self.widen = ConvBn3(16, dim=16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.widen(self.down(x))


class DistanceAttention(nn.Module):
    """Attention with a bias for each distance, and a filter of the queries (as LeViT, Graham et al., ICCV 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = ConvBn3(16, dim=32)
        self.dw = DepthwiseBn2(8, kernel=3, conv2=1)
        self.distance = DistanceBias((2, 2), 2)
        self.proj = ConvBn3(16, dim=16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).split((8, 8, 16), 1)
        q = self.dw(q).unflatten(1, (2, -1))
        k = k.unflatten(1, (2, -1))
        v = v.unflatten(1, (2, -1))
        bias = self.distance()
        y = short_attention(
            q.flatten(3).transpose(2, 3), k.flatten(3).transpose(2, 3), v.flatten(3).transpose(2, 3), bias=bias
        )
        y = y.transpose(1, 2).unflatten(1, (-1, 2)).flatten(3).permute(0, 3, 1, 2)
        return self.proj(F.relu(y))


class Block3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mixer = DistanceAttention()
        self.ffn = Ffn()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mixer(x)
        return x + self.ffn(x)


class Stage3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = DepthwiseBn()
        self.widen = ConvBn3(16, dim=16)
        self.blocks = nn.ModuleList([Block(), Block3()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.widen(self.down(x))
        for block in self.blocks:
            x = block(x)
        return x


class Lsnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem1 = ConvBn(3, dim=4)
        self.stem2 = ConvBn(4, dim=8)
        self.stem3 = ConvBn2()
        self.stages = nn.ModuleDict({"1": Stage2(), "2": Stage(), "3": Stage3()})
        self.head_norm = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 96, 96):
            raise ValueError(f"image must be [b, c = 3, h = 96, w = 96], and is {list(image.shape)}")
        x = self.stem3(self.stem2(self.stem1(image)))
        x = self.stages["1"](x)
        x = self.stages["2"](x)
        x = self.stages["3"](x)
        return self.head(self.head_norm(x.mean((2, 3))))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, (DepthwiseBn, ConvBn3, ConvBn4, Ffn)):
                module.compile(**options)
