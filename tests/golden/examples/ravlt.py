"""RAVLT: Breaking the Low-Rank Dilemma of Linear Attention (Fan et al., CVPR 2025)."""

from collections.abc import Sequence

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


class LayerScale(nn.Module):
    """y = gamma x over the last axes."""

    def __init__(self, *shape: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


def rotary_turns(
    places: Sequence[int],
    pairs: int,
    base: float = 10000.0,
    step: float = 1.0,
    speeds: Tensor | None = None,
    gain: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    past: int = 0,
) -> Tensor:
    """[cos, sin] of the angles at the places of a map, `gain` times: [2, *places, pairs of all axes]. Each axis has its
    own share of the pairs: pair i at place p turns by p * step * base^(-i / pairs), or p * speeds[i].
    Along the first one, `past` places come before.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    if speeds is None:
        speeds = step / base ** (torch.arange(pairs, dtype=dtype, device=device) / pairs)
    angles = []
    for axis, size in enumerate(places):
        first = 0 if axis else past
        angle = torch.arange(first, first + size, dtype=dtype, device=device)[:, None] * speeds
        angles.append(angle.view(-1, *(1,) * (len(places) - axis - 1), pairs).expand(*places, pairs))
    angle = torch.cat(angles, -1)
    return torch.stack((angle.cos(), angle.sin())) * gain


def turn(x: Tensor, turns: Tensor, axes: Sequence[int], interleaved: bool = False) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin) for pairs of the first channels of x (the last axis), with the cos and
    sin of each place along `axes`: turns [2, *places, pairs].
    """
    dim = 2 * turns.shape[-1]
    places = [size if axis in axes else 1 for axis, size in enumerate(x.shape[:-1])][min(axes) :]
    cos, sin = turns.reshape(2, *places, dim // 2)
    turned = x[..., :dim]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    a, b = a * cos - b * sin, b * cos + a * sin
    turned = torch.stack((a, b), -1).flatten(-2) if interleaved else torch.cat((a, b), -1)
    return torch.cat((turned.to(x.dtype), x[..., dim:]), -1) if dim < x.shape[-1] else turned.to(x.dtype)


class RankAugmentedAttention(nn.Module):
    """Linear attention over elu + 1: keys weigh by what the mean query sees in them, which keeps the rank of their
    sum, and a gate of x gives rank to what is read (Fan et al., RALA, CVPR 2025).
    """

    def __init__(self) -> None:
        super().__init__()
        self.qkvo = nn.Linear(8, 32)
        self.lepe = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v, gate = self.qkvo(x).chunk(4, -1)
        local = self.lepe(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        q = 1 + F.elu(q.unflatten(-1, (1, -1)))
        k = 1 + F.elu(k.unflatten(-1, (1, -1)))
        v = v.unflatten(-1, (1, -1))
        seen = torch.einsum("bhc,bawhc->bhaw", q.mean((1, 2)), k) * 0.3535533905932738
        k = k * seen.flatten(2).softmax(-1).transpose(1, 2).unflatten(1, (-1, 8))[..., None]
        weight = torch.einsum("bhwec,bec->bhwe", q, k.sum((1, 2)))
        turns = rotary_turns((8, 8), 2, base=100000000.0, dtype=q.dtype, device=q.device)
        q = turn(q, turns, (1, 2), interleaved=True)
        turns = rotary_turns((8, 8), 2, base=100000000.0, dtype=k.dtype, device=k.device)
        k = turn(k, turns, (1, 2), interleaved=True)
        total = torch.einsum("bhwek,bekc->bhwec", q, torch.einsum("bhwek,bhwec->bekc", k, v))
        y = (total / (weight + 1e-6)[..., None]).flatten(3)
        return self.proj((y + local) * gate)


class Ffn(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.dwconv = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.fc1(x)).permute(0, 3, 1, 2)
        return self.fc2((x + self.dwconv(x)).permute(0, 2, 3, 1))


class Block(nn.Module):
    def __init__(self, stochastic_depth: float) -> None:
        super().__init__()
        self.stochastic_depth = stochastic_depth
        self.pos = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm1 = nn.LayerNorm(8, eps=1e-6)
        self.attn = RankAugmentedAttention()
        self.scale1 = LayerScale(8, init=1.0)
        self.norm2 = nn.LayerNorm(8, eps=1e-6)
        self.ffn = Ffn(8)
        self.scale2 = LayerScale(8, init=1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x + self.pos(x)).permute(0, 2, 3, 1)
        y = self.norm1(x)
        y = self.attn(y)
        x = x + drop_path(self.scale1(y), self.stochastic_depth, self.training)
        return (x + drop_path(self.scale2(self.ffn(self.norm2(x))), self.stochastic_depth, self.training)).permute(
            0, 3, 1, 2
        )


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(stochastic_depth) for stochastic_depth in (0.0, 0.05))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class GatedAttention(nn.Module):
    """Softmax attention to all of the map, with the same local branch and gate."""

    def __init__(self) -> None:
        super().__init__()
        self.qkvo = nn.Linear(16, 64)
        self.lepe = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.proj = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        device = x.device
        q, k, v, gate = self.qkvo(x).chunk(4, -1)
        local = self.lepe(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        turns = rotary_turns((4, 4), 2, base=100000000.0, dtype=dtype, device=device)
        q = turn(q.unflatten(-1, (2, -1)), turns, (1, 2), interleaved=True)
        turns = rotary_turns((4, 4), 2, base=100000000.0, dtype=dtype, device=device)
        k = turn(k.unflatten(-1, (2, -1)), turns, (1, 2), interleaved=True)
        v = v.unflatten(-1, (2, -1))
        y = F.scaled_dot_product_attention(
            q.flatten(1, 2).transpose(1, 2), k.flatten(1, 2).transpose(1, 2), v.flatten(1, 2).transpose(1, 2)
        )
        y = y.transpose(1, 2).unflatten(1, (-1, 4)).flatten(3)
        return self.proj((y + local) * gate)


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm1 = nn.LayerNorm(16, eps=1e-6)
        self.attn = GatedAttention()
        self.scale1 = LayerScale(16, init=1.0)
        self.norm2 = nn.LayerNorm(16, eps=1e-6)
        self.ffn = Ffn(16)
        self.scale2 = LayerScale(16, init=1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x + self.pos(x)).permute(0, 2, 3, 1)
        y = self.norm1(x)
        y = self.attn(y)
        x = x + drop_path(self.scale1(y), 0.1, self.training)
        return (x + drop_path(self.scale2(self.ffn(self.norm2(x))), 0.1, self.training)).permute(0, 3, 1, 2)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.down_norm = nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList([Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down_norm(self.down(x))
        for block in self.blocks:
            x = block(x)
        return x


class Ravlt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.stem_norm1 = nn.BatchNorm2d(4)
        self.stem2 = nn.Conv2d(4, 4, 3, padding=1)
        self.stem_norm2 = nn.BatchNorm2d(4)
        self.stem3 = nn.Conv2d(4, 4, 3, padding=1)
        self.stem_norm3 = nn.BatchNorm2d(4)
        self.stem4 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.stem_norm4 = nn.BatchNorm2d(8)
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.proj = nn.Linear(16, 12)
        self.norm = nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.stem3(F.gelu(self.stem_norm2(self.stem2(F.gelu(self.stem_norm1(self.stem1(image)))))))
        x = self.stem_norm4(self.stem4(F.gelu(self.stem_norm3(x))))
        for stage in self.stages:
            x = stage(x)
        x = F.silu(self.norm(self.proj(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)))
        return self.head(x.mean((2, 3)))
