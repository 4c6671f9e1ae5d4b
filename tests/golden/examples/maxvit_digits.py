"""MaxViT: Multi-Axis Vision Transformer (Tu et al., ECCV 2022), with the details of the published TensorFlow
weights.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2)
        self.norm1 = nn.BatchNorm2d(8, eps=0.001)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.norm1(self.conv1(F.pad(x, (0, 1, 0, 1)))), approximate="tanh")
        return self.conv2(x)


class SqueezeExcite(nn.Module):
    """A gate for each channel, from the mean of the map (Hu et al., CVPR 2018)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(F.silu(self.fc1(x.mean((2, 3))))))[..., None, None]


class Mbconv(nn.Module):
    """Inverted residual with a norm before it and a gate inside, as in MaxViT (Tu et al., ECCV 2022)."""

    def __init__(self, dim: int, wide: int) -> None:
        super().__init__()
        self.pre_norm = nn.BatchNorm2d(dim, eps=0.001)
        self.expand = nn.Conv2d(dim, wide, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(wide, eps=0.001)
        self.depthwise = nn.Conv2d(wide, wide, 3, stride=2, groups=wide, bias=False)
        self.norm2 = nn.BatchNorm2d(wide, eps=0.001)
        self.se = SqueezeExcite(wide, hidden=dim // 4)
        self.project = nn.Conv2d(wide, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.avg_pool2d(x, 2)
        y = F.gelu(self.norm1(self.expand(self.pre_norm(x))), approximate="tanh")
        y = F.gelu(self.norm2(self.depthwise(F.pad(y, (0, 1, 0, 1)))), approximate="tanh")
        y = self.se(y)
        return pooled + self.project(y)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.relative = RelativePosition((2, 2), heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, 8))
        q, k, v = qkv.unbind(3)
        o = window_attention(q, k, v, (2, 2), bias=self.relative())
        return self.proj(o.flatten(3))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Axis(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, heads=dim // 8)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SelfAttention2(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.relative = RelativePosition((2, 2), heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, 8))
        q, k, v = qkv.unbind(3)
        o = window_attention(q, k, v, (2, 2), spread=True, bias=self.relative())
        return self.proj(o.flatten(3))


class Axis2(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention2(dim, heads=dim // 8)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class MultiAxis(nn.Module):
    """Window attention, then grid attention, each followed by an MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.axes = nn.ModuleList([Axis(dim), Axis2(dim)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis in self.axes:
            x = axis(x)
        return x


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = Mbconv(dim, wide=4 * dim)
        self.multi_axis = MultiAxis(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.multi_axis(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stage(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(dim)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Mbconv2(nn.Module):
    """Inverted residual with a norm before it and a gate inside, as in MaxViT (Tu et al., ECCV 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(8, 16, 1)
        self.pre_norm = nn.BatchNorm2d(8, eps=0.001)
        self.expand = nn.Conv2d(8, 64, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(64, eps=0.001)
        self.depthwise = nn.Conv2d(64, 64, 3, stride=2, groups=64, bias=False)
        self.norm2 = nn.BatchNorm2d(64, eps=0.001)
        self.se = SqueezeExcite(64, hidden=4)
        self.project = nn.Conv2d(64, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.avg_pool2d(x, 2)
        short = self.shortcut(pooled)
        y = F.gelu(self.norm1(self.expand(self.pre_norm(x))), approximate="tanh")
        y = F.gelu(self.norm2(self.depthwise(F.pad(y, (0, 1, 0, 1)))), approximate="tanh")
        y = self.se(y)
        return short + self.project(y)


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Mbconv2()
        self.multi_axis = MultiAxis(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.multi_axis(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Maxvit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvStem()
        self.stages = nn.ModuleList([Stage(8), Stage2(), *(Stage(16) for _ in range(2))])
        self.norm = nn.LayerNorm(16)
        self.pre_logits = nn.Linear(16, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 64, 64):
            raise ValueError(f"image must be [b, c = 3, h = 64, w = 64], and is {list(image.shape)}")
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
        return self.head(torch.tanh(self.pre_logits(self.norm(x.mean((2, 3))))))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, (SqueezeExcite, MultiAxis)):
                module.compile(**options)
