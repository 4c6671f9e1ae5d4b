"""Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in MRI Images (Hatamizadeh et al., 2022),
over volumes and over images from the same blocks.
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


def shift_bias(
    space: Sequence[int],
    window: Sequence[int],
    shift: Sequence[int],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """0 where two places of a shifted window are neighbours on the map, -inf where the shift wrapped one of them:
    [windows, 1, places, places].
    """
    same = torch.ones(1, 1, 1, dtype=torch.bool, device=device)
    for size, side, step in zip(space, window, shift, strict=True):
        wrapped = (torch.arange(size, device=device) >= size - step).reshape(-1, side)
        pairs = wrapped[:, :, None] == wrapped[:, None]
        same = same[:, None, :, None, :, None] & pairs[None, :, None, :, None]
        same = same.flatten(0, 1).flatten(1, 2).flatten(2)
    return torch.zeros((), dtype=dtype, device=device).where(same, float("-inf"))[:, None]


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


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.relative = RelativePosition((3, 3, 3), heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, 2))
        q, k, v = qkv.unbind(4)
        o = window_attention(q, k, v, (3, 3, 3), bias=self.relative())
        return self.proj(o.flatten(4))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim: int, height: int, heads: int) -> None:
        super().__init__()
        self.height = height
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, heads=heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attn = self.attn(F.pad(self.norm1(x), (0, 0, 0, self.heads, 0, self.heads, 0, self.heads)))
        x = x + attn[:, : self.height, : self.height, : self.height]
        return x + self.mlp(self.norm2(x))


class SelfAttention2(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(2, 6)
        self.relative = RelativePosition((3, 3, 3), 1)
        self.register_buffer("shift_bias", shift_bias((9, 9, 9), (3, 3, 3), (1, 1, 1)), persistent=False)
        self.proj = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 1, 2))
        q, k, v = qkv.unbind(4)
        bias = self.relative()
        o = window_attention(q, k, v, (3, 3, 3), shift=(1, 1, 1), bias=bias, border=self.shift_bias)
        return self.proj(o.flatten(4))


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(2)
        self.attn = SelfAttention2()
        self.norm2 = nn.LayerNorm(2)
        self.mlp = Mlp(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attn = self.attn(F.pad(self.norm1(x), (0, 0, 0, 1, 0, 1, 0, 1)))
        x = x + attn[:, :8, :8, :8]
        return x + self.mlp(self.norm2(x))


class SwinStage(nn.Module):
    """Attention in windows, every second time moved by half a window, and a map of half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(2, height=8, heads=1), Block2()])
        self.norm = nn.LayerNorm(16)
        self.reduction = nn.Linear(16, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        space_to_depth = (
            x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).unflatten(5, (-1, 2)).permute(0, 1, 3, 5, 6, 4, 2, 7)
        )
        return self.reduction(self.norm(space_to_depth.flatten(4)))


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.swin_stage = SwinStage()

    def forward(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.swin_stage(y)
        return y, F.layer_norm(y, (4,))


class SwinStage2(nn.Module):
    """Attention in windows, every second time moved by half a window, and a map of half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(4, height=4, heads=2)])
        self.norm = nn.LayerNorm(32)
        self.reduction = nn.Linear(32, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        space_to_depth = (
            x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).unflatten(5, (-1, 2)).permute(0, 1, 3, 5, 6, 4, 2, 7)
        )
        return self.reduction(self.norm(space_to_depth.flatten(4)))


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.swin_stage = SwinStage2()

    def forward(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.swin_stage(y)
        return y, F.layer_norm(y, (8,))


class ConvNorm(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_dim, dim, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.instance_norm(self.conv(x))


class ConvNorm2(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_dim, dim, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.instance_norm(self.conv(x))


class ResUnit(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_dim, dim=dim)
        self.conv2 = ConvNorm(dim, dim=dim)
        self.conv3 = ConvNorm2(in_dim, dim=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(F.leaky_relu(self.conv1(x)))
        short = self.conv3(x)
        return F.leaky_relu(y + short)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResUnit(4, dim=2)

    def forward(self, tap: torch.Tensor) -> torch.Tensor:
        return self.encoder(tap)


class ResUnit2(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, dim=dim)
        self.conv2 = ConvNorm(dim, dim=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(F.leaky_relu(self.conv1(x)))
        return F.leaky_relu(y + x)


class Encoder2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResUnit2(2)

    def forward(self, tap: torch.Tensor) -> torch.Tensor:
        return self.encoder(tap)


class UpMerge(nn.Module):
    def __init__(self, dim: int, skip_dim: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(dim, skip_dim, 2, stride=2, bias=False)
        self.fuse = ResUnit(2 * skip_dim, dim=skip_dim)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.fuse(torch.cat((self.up(x), skip), 1))


class Decoder(nn.Module):
    def __init__(self, dim: int, skip_dim: int) -> None:
        super().__init__()
        self.up_merge = UpMerge(dim, skip_dim=skip_dim)

    def forward(self, z: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.up_merge(z, skip)


class SwinUnetr(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv3d(4, 2, 2, stride=2)
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.encoders = nn.ModuleList([Encoder(), Encoder2()])
        self.bottleneck = ResUnit2(8)
        self.decoders = nn.ModuleList(Decoder(dim, skip_dim=skip_dim) for dim, skip_dim in zip((8, 4, 2), (4, 2, 2)))
        self.out = nn.Conv3d(2, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.patch_embed(x).permute(0, 2, 3, 4, 1)
        y2 = y
        taps = []
        for stage in self.stages:
            y2, tap = stage(y2)
            taps.append(tap)
        z = F.layer_norm(y, (2,)).permute(0, 4, 1, 2, 3)
        skips = []
        for encoder, tap2 in zip(self.encoders, [x, z]):
            skip = encoder(tap2)
            skips.append(skip)
        z = self.bottleneck(tap.permute(0, 4, 1, 2, 3))
        stages = taps[0].permute(0, 4, 1, 2, 3)
        for decoder, skip2 in zip(self.decoders, [stages, skip, skips[0]]):
            z = decoder(z, skip2)
        return self.out(z)


class SwinUnetr3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = SwinUnetr()

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        if volume.ndim != 5 or volume.shape[1:] != (4, 16, 16, 16):
            raise ValueError(f"volume must be [b, c = 4, h = 16, w = 16, d = 16], and is {list(volume.shape)}")
        return self.net(volume)

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, (ConvNorm, ResUnit)):
                module.compile(**options)
