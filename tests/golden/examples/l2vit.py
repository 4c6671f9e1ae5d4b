"""L2ViT: The Linear Attention Resurrection in Vision Transformer (Zheng, arXiv:2501.16182)."""

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


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, 4))
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


class WindowBlock(nn.Module):
    """Attention inside windows that never shift; two depthwise convolutions tell positions apart."""

    def __init__(self, dim: int, drop_path: float, heads: int) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.cpe1 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, heads=heads)
        self.cpe2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x + self.cpe1(x)).permute(0, 2, 3, 1)
        x = (x + drop_path(self.attn(self.norm1(x)), self.drop_path, self.training)).permute(0, 3, 1, 2)
        x = (x + self.cpe2(x)).permute(0, 2, 3, 1)
        return (x + drop_path(self.mlp(self.norm2(x)), self.drop_path, self.training)).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, drop_path: float, dim: int) -> None:
        super().__init__()
        self.window_block = WindowBlock(dim, drop_path=drop_path, heads=dim // 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.window_block(x)


class ReluAttention(nn.Module):
    """Linear attention over relu(q) and relu(k) with a scale per head; the weights are at least `least`
    (Zheng, The Linear Attention Resurrection in Vision Transformer, arXiv:2501.16182).
    """

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(1) * 0.5)
        self.qkv = nn.Linear(4, 12)
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 1, 4))
        qkv0, qkv1, total = qkv.unbind(3)
        qkv0 = F.relu(qkv0)
        qkv1 = F.relu(qkv1)
        weight = torch.einsum("bhwec,bec->bhwe", qkv0, qkv1.sum((1, 2)))
        total = torch.einsum("bhwek,bekc->bhwec", qkv0, torch.einsum("bhwek,bhwec->bekc", qkv1, total))
        return self.proj((self.temperature[:, None] * total / weight.clamp(min=100)[..., None]).flatten(3))


class LocalConcentration(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 7, padding=3, groups=4)
        self.bn = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 7, padding=3, groups=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.bn(F.gelu(self.conv1(x))))


class GlobalBlock(nn.Module):
    """Linear attention to all of the map, whose even weights a local branch sharpens."""

    def __init__(self) -> None:
        super().__init__()
        self.cpe1 = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm1 = nn.LayerNorm(4)
        self.attn = ReluAttention()
        self.norm3 = nn.LayerNorm(4)
        self.local = LocalConcentration()
        self.norm2 = nn.LayerNorm(4)
        self.mlp = Mlp(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x + self.cpe1(x)).permute(0, 2, 3, 1)
        x = x + drop_path(self.attn(self.norm1(x)), 0.1, self.training)
        x = x + drop_path(self.local(self.norm3(x).permute(0, 3, 1, 2)), 0.1, self.training).permute(0, 2, 3, 1)
        return (x + drop_path(self.mlp(self.norm2(x)), 0.1, self.training)).permute(0, 3, 1, 2)


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.global_block = GlobalBlock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.global_block(x)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(0.0, dim=4), Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.down = nn.Conv2d(4, 8, 2, stride=2)
        self.blocks = nn.ModuleList([Block(0.2, dim=8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        for block in self.blocks:
            x = block(x)
        return x


class L2vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem1 = nn.Conv2d(3, 2, 3, stride=2, padding=1)
        self.stem_norm1 = nn.BatchNorm2d(2)
        self.stem2 = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.stem_norm2 = nn.BatchNorm2d(4)
        self.stem_norm3 = nn.LayerNorm(4)
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.stem_norm2(self.stem2(F.relu(self.stem_norm1(self.stem1(image)))))
        x = self.stem_norm3(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x.permute(0, 2, 3, 1)).mean((1, 2)))
