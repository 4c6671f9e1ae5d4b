"""CoAtNet: Marrying Convolution and Attention for All Data Sizes (Dai et al., NeurIPS 2021), with the details of
the weights that were published for timm.
"""

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if not training or rate == 0:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    kept = torch.rand(shape, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1 - rate))


def offset_index(window: Sequence[int], table: Sequence[int] | None = None) -> Tensor:
    """index[i, j]: the row of the offset from place j to place i, the first axis the slowest, in the table of a window
    as large or larger.
    """
    index = torch.zeros(1, 1, dtype=torch.long)
    for size, most in zip(window, table or window, strict=True):
        offset = torch.arange(size)[:, None] - torch.arange(size) + most - 1
        index = index[:, None, :, None] * (2 * most - 1) + offset[:, None]
        index = index.flatten(0, 1).flatten(1)
    return index


class RelativePosition(nn.Module):
    """bias[head, i, j] = weight[row of the offset from place j to place i, head]"""

    index: Tensor

    def __init__(self, window: Sequence[int], heads: int, table: Sequence[int] | None = None) -> None:
        super().__init__()
        rows = prod(2 * size - 1 for size in table or window)
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(rows, heads), std=0.02))
        self.register_buffer("index", offset_index(window, table), persistent=False)

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


class SqueezeExcite(nn.Module):
    """A gate for each channel, from the mean of the map (Hu et al., CVPR 2018)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))[..., None, None]


class Mobile(nn.Module):
    """An inverted residual; the first of a stage halves the map and widens it."""

    def __init__(self, in_dim: int, dim: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.shortcut = nn.Conv2d(in_dim, dim, 1, bias=False)
        self.pre_norm = nn.BatchNorm2d(in_dim)
        self.expand = nn.Conv2d(in_dim, 4 * in_dim, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(4 * in_dim)
        self.depthwise = nn.Conv2d(4 * in_dim, 4 * in_dim, 3, padding=1, groups=4 * in_dim, bias=False)
        self.se = SqueezeExcite(4 * in_dim, hidden=in_dim)
        self.norm2 = nn.BatchNorm2d(4 * in_dim)
        self.project = nn.Conv2d(4 * in_dim, dim, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = self.shortcut(F.avg_pool2d(x, 2))
        y = self.depthwise(F.silu(self.norm1(self.expand(F.avg_pool2d(F.silu(self.pre_norm(x)), 2)))))
        y = self.project(F.silu(self.norm2(self.se(y))))
        return short + drop_path(y, self.drop_path, self.training)


class Block(nn.Module):
    def __init__(self, in_dim: int, drop_path: float, dim: int) -> None:
        super().__init__()
        self.mobile = Mobile(in_dim, dim=dim, drop_path=drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mobile(x)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(6, drop_path=0.0, dim=4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Mobile2(nn.Module):
    """An inverted residual; the first of a stage halves the map and widens it."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_norm = nn.BatchNorm2d(8)
        self.expand = nn.Conv2d(8, 32, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
        self.se = SqueezeExcite(32, hidden=8)
        self.norm2 = nn.BatchNorm2d(32)
        self.project = nn.Conv2d(32, 8, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.se(self.depthwise(F.silu(self.norm1(self.expand(F.silu(self.pre_norm(x)))))))
        y = self.project(F.silu(self.norm2(y)))
        return x + drop_path(y, 0.08, self.training)


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mobile = Mobile2()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mobile(x)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(4, drop_path=0.04, dim=8), Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Transformer(nn.Module):
    """Attention over the whole map with a bias for each offset, and an MLP; the first of a stage halves and widens."""

    def __init__(self, in_dim: int, height: int, drop_path: float, dim: int) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.height = height
        self.drop_path = drop_path
        self.shortcut = nn.Conv2d(in_dim, dim, 1, bias=False)
        self.norm1 = nn.LayerNorm(in_dim, eps=1e-6)
        self.qkv = nn.Linear(in_dim, 3 * in_dim)
        self.relative = RelativePosition((height // 2, height // 2), in_dim // 4)
        self.proj = nn.Linear(in_dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = self.shortcut(F.avg_pool2d(x, 2)).permute(0, 2, 3, 1)
        y = F.avg_pool2d(self.norm1(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        qkv = self.qkv(y).unflatten(-1, (self.in_dim // 4, 3, 4))
        q, k, v = qkv.unbind(4)
        bias = self.relative()
        o = short_attention(
            q.flatten(1, 2).transpose(1, 2), k.flatten(1, 2).transpose(1, 2), v.flatten(1, 2).transpose(1, 2), bias=bias
        )
        o = self.proj(o.transpose(1, 2).unflatten(1, (-1, self.height // 2)).flatten(3))
        x = short + drop_path(o, self.drop_path, self.training)
        return (x + drop_path(self.mlp(self.norm2(x)), self.drop_path, self.training)).permute(0, 3, 1, 2)


class Block3(nn.Module):
    def __init__(self, in_dim: int, height: int, drop_path: float, dim: int) -> None:
        super().__init__()
        self.transformer = Transformer(in_dim, height=height, drop_path=drop_path, dim=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.transformer(x)


class Transformer2(nn.Module):
    """Attention over the whole map with a bias for each offset, and an MLP; the first of a stage halves and widens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(12, eps=1e-6)
        self.qkv = nn.Linear(12, 36)
        self.relative = RelativePosition((4, 4), 3)
        self.proj = nn.Linear(12, 12)
        self.norm2 = nn.LayerNorm(12, eps=1e-6)
        self.mlp = Mlp(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        qkv = self.qkv(y).unflatten(-1, (3, 3, 4))
        q, k, v = qkv.unbind(4)
        bias = self.relative()
        o = short_attention(
            q.flatten(1, 2).transpose(1, 2), k.flatten(1, 2).transpose(1, 2), v.flatten(1, 2).transpose(1, 2), bias=bias
        )
        o = self.proj(o.transpose(1, 2).unflatten(1, (-1, 4)).flatten(3))
        x = x + drop_path(o, 0.16, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), 0.16, self.training)


class Block4(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer = Transformer2()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.transformer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stage3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block3(8, height=8, drop_path=0.12, dim=12), Block4()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Stage4(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block3(12, height=4, drop_path=0.2, dim=8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Coatnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem1 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(4)
        self.stem2 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.stages = nn.ModuleList([Stage(), Stage2(), Stage3(), Stage4()])
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 64, 64):
            raise ValueError(f"image must be [b, c = 3, h = 64, w = 64], and is {list(image.shape)}")
        x = self.stem2(F.silu(self.stem_norm(self.stem1(image))))
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x.permute(0, 2, 3, 1)).mean((1, 2)))
