"""Swin Transformer V2: Scaling Up Capacity and Resolution (Liu et al., CVPR 2022)."""

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


class LogCpb(nn.Module):
    """bias[head, i, j] = 16 sigmoid(mlp(x)[head]), x the offset from place j to place i on a scale of logarithms.

    Along an axis x = sign(d) log_8(1 + 8 |d| / (size - 1)), size that of the window trained with.
    """

    offsets: Tensor
    index: Tensor

    def __init__(
        self, window: Sequence[int], heads: int, hidden: int = 512, pretrained: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.steps = [8 / max(size - 1, 1) for size in pretrained or window]
        self.fc1 = nn.Linear(len(window), hidden)
        self.fc2 = nn.Linear(hidden, heads, bias=False)
        reach = torch.meshgrid(*(torch.arange(1 - size, size) for size in window), indexing="ij")
        self.register_buffer("offsets", torch.stack(reach, -1).flatten(0, -2), persistent=False)
        self.register_buffer("index", offset_index(window), persistent=False)

    def forward(self) -> Tensor:
        exact = torch.promote_types(self.fc1.weight.dtype, torch.float32)
        x = self.offsets * torch.tensor(self.steps, dtype=exact, device=self.offsets.device)
        x = (x.sign() * (x.abs() + 1).log2() / 3).to(self.fc1.weight.dtype)
        bias: Tensor = 16 * self.fc2(self.fc1(x).relu()).sigmoid()
        return bias.T[:, self.index]


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


class PatchEmbed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 12, 4, stride=4)
        self.norm = nn.LayerNorm(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class CosineAttention(nn.Module):
    """cos(q, k) * exp(tau) + bias, tau at most log(100), the bias a function of the log-spaced offset; k has no
    bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.full((1,), 2.302585092994046))
        self.q = nn.Linear(12, 12)
        self.k = nn.Linear(12, 12, bias=False)
        self.v = nn.Linear(12, 12)
        self.log_cpb = LogCpb((4, 4), 1)
        self.proj = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = F.normalize(self.q(x).unflatten(-1, (1, 12)), dim=-1)
        k = F.normalize(self.k(x).unflatten(-1, (1, 12)), dim=-1)
        v = self.v(x).unflatten(-1, (1, 12))
        scale = torch.exp(self.tau.clamp(max=4.605170185988092))
        o = window_attention(q * scale[:, None], k, v, (4, 4), bias=self.log_cpb(), scale=1.0)
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
        self.attn = CosineAttention()
        self.norm1 = nn.LayerNorm(12)
        self.mlp = Mlp(12)
        self.norm2 = nn.LayerNorm(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


class CosineAttention2(nn.Module):
    """cos(q, k) * exp(tau) + bias, tau at most log(100), the bias a function of the log-spaced offset; k has no
    bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.full((1,), 2.302585092994046))
        self.q = nn.Linear(12, 12)
        self.k = nn.Linear(12, 12, bias=False)
        self.v = nn.Linear(12, 12)
        self.log_cpb = LogCpb((4, 4), 1)
        self.register_buffer("shift_bias", shift_bias((8, 8), (4, 4), (2, 2)), persistent=False)
        self.proj = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = F.normalize(self.q(x).unflatten(-1, (1, 12)), dim=-1)
        k = F.normalize(self.k(x).unflatten(-1, (1, 12)), dim=-1)
        v = self.v(x).unflatten(-1, (1, 12))
        scale = torch.exp(self.tau.clamp(max=4.605170185988092))
        bias = self.log_cpb()
        o = window_attention(
            q * scale[:, None], k, v, (4, 4), shift=(2, 2), bias=bias, border=self.shift_bias, scale=1.0
        )
        return self.proj(o.flatten(3))


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = CosineAttention2()
        self.norm1 = nn.LayerNorm(12)
        self.mlp = Mlp(12)
        self.norm2 = nn.LayerNorm(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + drop_path(self.norm1(self.attn(x)), 0.06666666666666667, self.training)
        return x + drop_path(self.norm2(self.mlp(x)), 0.06666666666666667, self.training)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class PatchMerge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduction = nn.Linear(48, 24, bias=False)
        self.norm = nn.LayerNorm(24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.norm(self.reduction(x))


class CosineAttention3(nn.Module):
    """cos(q, k) * exp(tau) + bias, tau at most log(100), the bias a function of the log-spaced offset; k has no
    bias.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.full((2,), 2.302585092994046))
        self.q = nn.Linear(24, 24)
        self.k = nn.Linear(24, 24, bias=False)
        self.v = nn.Linear(24, 24)
        self.log_cpb = LogCpb((4, 4), 2, pretrained=(2, 2))
        self.proj = nn.Linear(24, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = F.normalize(self.q(x).unflatten(-1, (2, 12)), dim=-1)
        k = F.normalize(self.k(x).unflatten(-1, (2, 12)), dim=-1)
        v = self.v(x).unflatten(-1, (2, 12))
        scale = torch.exp(self.tau.clamp(max=4.605170185988092))
        o = window_attention(q * scale[:, None], k, v, (4, 4), bias=self.log_cpb(), scale=1.0)
        return self.proj(o.flatten(3))


class Block3(nn.Module):
    def __init__(self, stochastic_depth: float) -> None:
        super().__init__()
        self.stochastic_depth = stochastic_depth
        self.attn = CosineAttention3()
        self.norm1 = nn.LayerNorm(24)
        self.mlp = Mlp(24)
        self.norm2 = nn.LayerNorm(24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + drop_path(self.norm1(self.attn(x)), self.stochastic_depth, self.training)
        return x + drop_path(self.norm2(self.mlp(x)), self.stochastic_depth, self.training)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_merge = PatchMerge()
        self.blocks = nn.ModuleList(Block3(stochastic_depth) for stochastic_depth in (0.13333333333333333, 0.2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_merge(x)
        for block in self.blocks:
            x = block(x)
        return x


class SwinV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed()
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.patch_embed(image).permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))
