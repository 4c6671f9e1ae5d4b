"""CSWin Transformer: cross-shaped windows (Dong et al., CVPR 2022)."""

from collections.abc import Callable, Sequence

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


class LepeAttention(nn.Module):
    """Attention in stripes and, of each stripe alone, a depthwise convolution of the values that tells where they
    are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.get_v = nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = qkv.unbind(1)
        lepe = v.unflatten(-1, (-1, 2)).permute(1, 2, 3, 0, 4, 5).flatten(3, 4).flatten(0, 1)
        lepe = self.get_v(lepe.permute(2, 0, 1, 3)).unflatten(1, (1, -1))
        lepe = lepe.unflatten(0, (-1, 4)).permute(0, 2, 3, 4, 1, 5).flatten(4)
        q = window_attention(q.permute(0, 3, 4, 1, 2), k.permute(0, 3, 4, 1, 2), v.permute(0, 3, 4, 1, 2), (8, 2))
        return q + lepe.permute(0, 3, 4, 1, 2)


class LepeAttention2(nn.Module):
    """Attention in stripes and, of each stripe alone, a depthwise convolution of the values that tells where they
    are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.get_v = nn.Conv2d(4, 4, 3, padding=1, groups=4)

    def forward(self, qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = qkv.unbind(1)
        lepe = v.unflatten(3, (-1, 2)).permute(1, 2, 0, 3, 4, 5).flatten(2, 3).flatten(0, 1)
        lepe = self.get_v(lepe.transpose(0, 1)).unflatten(1, (1, -1))
        lepe = lepe.unflatten(0, (-1, 4)).permute(0, 2, 3, 1, 4, 5).flatten(3, 4)
        q = window_attention(q.permute(0, 3, 4, 1, 2), k.permute(0, 3, 4, 1, 2), v.permute(0, 3, 4, 1, 2), (2, 8))
        return q + lepe.permute(0, 3, 4, 1, 2)


class CrossShapedAttention(nn.Module):
    """Half of the heads in vertical stripes, half in horizontal ones; all together where a stripe is the map."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.vertical = LepeAttention()
        self.horizontal = LepeAttention2()
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 4))
        left, right = qkv.chunk(2, 4)
        vertical = self.vertical(left.permute(0, 3, 4, 5, 1, 2))
        horizontal = self.horizontal(right.permute(0, 3, 4, 5, 1, 2))
        o = torch.cat((vertical, horizontal), 3)
        return self.proj(o.flatten(3))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.attn = CrossShapedAttention()
        self.norm2 = nn.LayerNorm(8)
        self.mlp = Mlp(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class LepeAttention3(nn.Module):
    """Attention in stripes and, of each stripe alone, a depthwise convolution of the values that tells where they
    are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.get_v = nn.Conv2d(16, 16, 3, padding=1, groups=16)

    def forward(self, qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = qkv.unbind(1)
        lepe = self.get_v(v.flatten(1, 2)).unflatten(1, (2, -1))
        attend = F.scaled_dot_product_attention(
            q.flatten(3).transpose(2, 3), k.flatten(3).transpose(2, 3), v.flatten(3).transpose(2, 3)
        )
        return attend.unflatten(2, (-1, 4)) + lepe.permute(0, 1, 3, 4, 2)


class CrossShapedAttention2(nn.Module):
    """Half of the heads in vertical stripes, half in horizontal ones; all together where a stripe is the map."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.whole = LepeAttention3()
        self.proj = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).permute(0, 3, 1, 2).unflatten(1, (3, 2, 8))
        o = self.whole(qkv)
        return self.proj(o.permute(0, 2, 3, 1, 4).flatten(3))


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(16)
        self.attn = CrossShapedAttention2()
        self.norm2 = nn.LayerNorm(16)
        self.mlp = Mlp(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + drop_path(self.attn(self.norm1(x)), 0.1, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), 0.1, self.training)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.merge = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.merge_norm = nn.LayerNorm(16)
        self.blocks = nn.ModuleList([Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.merge_norm(self.merge(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        for block in self.blocks:
            x = block(x)
        return x


class Cswin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 7, stride=4, padding=2)
        self.embed_norm = nn.LayerNorm(8)
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.embed_norm(self.embed(image).permute(0, 2, 3, 1))
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))
