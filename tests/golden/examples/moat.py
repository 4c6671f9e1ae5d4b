"""MOAT: Alternating Mobile Convolution and Attention Brings Strong Vision Models (Yang et al., ICLR 2023).

The MLP of a transformer layer becomes a mobile convolution, which also downsamples, and comes before attention.
"""

from collections.abc import Callable, Sequence
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


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: Sequence[int],
    shift: Sequence[int] | None = None,
    step: Sequence[int] | None = None,
    spread: bool = False,
    bias: Tensor | None = None,
    border: Tensor | None = None,
    scale: float | None = None,
    drop: float = 0.0,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
    core: Callable[..., Tensor] = short_attention,
) -> Tensor:
    """Attention inside each window of q, k, v: [batch, *map, heads, c], each of which may lack batch and heads. `shift`
    moves the windows, the places of one are `step` apart, or `spread` over the map. `border` keeps apart what the shift
    wrapped, beside a `bias` [.., heads, query, key], which may have batch and windows before. `mask` [batch, *map,
    heads] says which keys are there, `segments` [batch, *map, heads] in which document each place is.
    """
    rank, space = len(window), q.shape[1:-2]
    steps = [size // side for size, side in zip(space, window, strict=True)] if spread else step or [1] * rank
    counts = [size // (side * gap) for size, side, gap in zip(space, window, steps, strict=True)]
    sizes = [size for axis in zip(counts, window, steps, strict=True) for size in axis]
    axes = list(range(1, rank + 1))
    outer = [at for axis in range(rank) for at in (3 * axis + 1, 3 * axis + 3)]
    inner = [3 * axis + 2 for axis in range(rank)]

    def cut(x: Tensor) -> Tensor:
        """[batch, *map, heads, c] -> [batch, windows, heads, places, c]"""
        if shift is not None:
            x = x.roll([-move for move in shift], axes)
        x = x.reshape(x.shape[0], *sizes, *x.shape[-2:])
        x = x.permute(0, *outer, 3 * rank + 1, *inner, 3 * rank + 2)
        return x.flatten(2 * rank + 2, -2).flatten(1, 2 * rank)

    def places(x: Tensor) -> Tensor:
        """[batch, *map, heads] -> [batch, windows, heads, places, 1]"""
        return cut(x.expand(-1, *space, -1)[..., None])

    if border is not None:
        bias = border if bias is None else bias + border
    if mask is not None:
        bias = torch.where(places(mask).mT, 0.0 if bias is None else bias, float("-inf")).to(q.dtype)
    if segments is not None:
        own = places(segments)
        bias = torch.where(own == own.mT, 0.0 if bias is None else bias, float("-inf")).to(q.dtype)
    x = core(cut(q), cut(k), cut(v), bias, drop, scale=scale)
    batch, heads = x.shape[0], x.shape[2]
    x = x.reshape(batch, *(sizes[at - 1] for at in outer), heads, *window, x.shape[-1])
    order = [at for axis in range(rank) for at in (2 * axis + 1, 2 * rank + 2 + axis, 2 * axis + 2)]
    x = x.permute(0, *order, 2 * rank + 1, 3 * rank + 2).reshape(batch, *space, heads, x.shape[-1])
    return x if shift is None else x.roll(list(shift), axes)


class ConvStem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(4, eps=0.001)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.gelu(self.norm1(self.conv1(x))))


class SqueezeExcite(nn.Module):
    """A gate for each channel, from the mean of the map (Hu et al., CVPR 2018)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(F.silu(self.fc1(x.mean((2, 3))))))[..., None, None]


class Mbconv3(nn.Module):
    """Inverted residual with a norm before it and a gate inside, as in MaxViT (Tu et al., ECCV 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_norm = nn.BatchNorm2d(4, eps=0.001)
        self.expand = nn.Conv2d(4, 16, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(16, eps=0.001)
        self.depthwise = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16, bias=False)
        self.norm2 = nn.BatchNorm2d(16, eps=0.001)
        self.se = SqueezeExcite(16, hidden=1)
        self.project = nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.avg_pool2d(x, 2)
        y = F.gelu(self.norm2(self.depthwise(F.gelu(self.norm1(self.expand(self.pre_norm(x)))))))
        y = self.se(y)
        return pooled + self.project(y)


class Block3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Mbconv3()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Stage3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block3()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Mbconv4(nn.Module):
    """Inverted residual with a norm before it and a gate inside, as in MaxViT (Tu et al., ECCV 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(4, 8, 1)
        self.pre_norm = nn.BatchNorm2d(4, eps=0.001)
        self.expand = nn.Conv2d(4, 32, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(32, eps=0.001)
        self.depthwise = nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=32, bias=False)
        self.norm2 = nn.BatchNorm2d(32, eps=0.001)
        self.se = SqueezeExcite(32, hidden=2)
        self.project = nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.avg_pool2d(x, 2)
        short = self.shortcut(pooled)
        y = F.gelu(self.norm2(self.depthwise(F.gelu(self.norm1(self.expand(self.pre_norm(x)))))))
        y = self.se(y)
        return short + drop_path(self.project(y), 0.05, self.training)


class Block4(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Mbconv4()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Stage4(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block4()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Mbconv(nn.Module):
    """Inverted residual with a norm before it and a gate inside, as in MaxViT (Tu et al., ECCV 2022)."""

    def __init__(self, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.pre_norm = nn.BatchNorm2d(8, eps=0.001)
        self.expand = nn.Conv2d(8, 32, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(32, eps=0.001)
        self.depthwise = nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=32, bias=False)
        self.norm2 = nn.BatchNorm2d(32, eps=0.001)
        self.project = nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.avg_pool2d(x, 2)
        y = F.gelu(self.norm2(self.depthwise(F.gelu(self.norm1(self.expand(self.pre_norm(x)))))))
        return pooled + drop_path(self.project(y), self.drop_path, self.training)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self.height = height
        self.qkv = nn.Linear(8, 24)
        self.relative = RelativePosition((height, height), 2)
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 4))
        q, k, v = qkv.unbind(3)
        o = window_attention(q, k, v, (self.height, self.height), bias=self.relative())
        return self.proj(o.flatten(3))


class Block(nn.Module):
    def __init__(self, height: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.conv = Mbconv(drop_path)
        self.norm = nn.LayerNorm(8)
        self.attn = SelfAttention(height // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).permute(0, 2, 3, 1)
        return (x + drop_path(self.attn(self.norm(x)), self.drop_path, self.training)).permute(0, 3, 1, 2)


class Mbconv2(nn.Module):
    """Inverted residual with a norm before it and a gate inside, as in MaxViT (Tu et al., ECCV 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_norm = nn.BatchNorm2d(8, eps=0.001)
        self.expand = nn.Conv2d(8, 32, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(32, eps=0.001)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
        self.norm2 = nn.BatchNorm2d(32, eps=0.001)
        self.project = nn.Conv2d(32, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.gelu(self.norm2(self.depthwise(F.gelu(self.norm1(self.expand(self.pre_norm(x)))))))
        return x + drop_path(self.project(y), 0.15, self.training)


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Mbconv2()
        self.norm = nn.LayerNorm(8)
        self.attn = SelfAttention(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).permute(0, 2, 3, 1)
        return (x + drop_path(self.attn(self.norm(x)), 0.15, self.training)).permute(0, 3, 1, 2)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(8, drop_path=0.1), Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(4, drop_path=0.2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Moat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvStem()
        self.stages = nn.ModuleList([Stage3(), Stage4(), Stage(), Stage2()])
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 64, 64):
            raise ValueError(f"image must be [b, c = 3, h = 64, w = 64], and is {list(image.shape)}")
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x.mean((2, 3))))
