"""DaViT: Dual Attention Vision Transformers (Ding et al., ECCV 2022)."""

from collections.abc import Callable, Sequence
from typing import Any

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


class ConditionalPosition(nn.Module):
    """x + depthwise(x): tokens learn from those around them where they are (Chu et al., CPVT, ICLR 2023)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.proj(x)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, 2))
        q, k, v = qkv.unbind(3)
        o = window_attention(q, k, v, (4, 4))
        return self.proj(o.flatten(3))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DualLayer(nn.Module):
    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.cpe1 = ConditionalPosition(dim)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, heads=dim // 2)
        self.cpe2 = ConditionalPosition(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cpe1 = self.cpe1(x).permute(0, 2, 3, 1)
        cpe2 = self.cpe2(
            (cpe1 + drop_path(self.attn(self.norm1(cpe1)), self.drop_path, self.training)).permute(0, 3, 1, 2)
        ).permute(0, 2, 3, 1)
        return (cpe2 + drop_path(self.mlp(self.norm2(cpe2)), self.drop_path, self.training)).permute(0, 3, 1, 2)


class ChannelGroupAttention(nn.Module):
    """The channels of a group attend to one another: each is a token whose features are its map."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, 2))
        value, query, key = qkv.unbind(3)
        weights = (torch.einsum("bhwec,bhweo->beco", query, key) * 0.7071067811865476).softmax(-1)
        weights = torch.einsum("bhco,bawho->bhcaw", weights, value)
        return self.proj(weights.permute(0, 3, 4, 1, 2).flatten(3))


class DualLayer2(nn.Module):
    def __init__(self, dim: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.cpe1 = ConditionalPosition(dim)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = ChannelGroupAttention(dim, heads=dim // 2)
        self.cpe2 = ConditionalPosition(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cpe1 = self.cpe1(x).permute(0, 2, 3, 1)
        cpe2 = self.cpe2(
            (cpe1 + drop_path(self.attn(self.norm1(cpe1)), self.drop_path, self.training)).permute(0, 3, 1, 2)
        ).permute(0, 2, 3, 1)
        return (cpe2 + drop_path(self.mlp(self.norm2(cpe2)), self.drop_path, self.training)).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, drop_path: float, dim: int) -> None:
        super().__init__()
        self.space = DualLayer(dim, drop_path=drop_path)
        self.channels = DualLayer2(dim, drop_path=drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.channels(self.space(x))


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(0.0, dim=4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.down = nn.Conv2d(4, 8, 2, stride=2)
        self.blocks = nn.ModuleList([Block(0.1, dim=8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        for block in self.blocks:
            x = block(x)
        return x


class Davit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 7, stride=4, padding=3)
        self.stem_norm = nn.LayerNorm(4)
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.stem_norm(self.stem(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x.mean((2, 3))))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, ConditionalPosition):
                module.compile(**options)
