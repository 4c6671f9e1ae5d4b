"""RoPE-ViT: Rotary Position Embedding for Vision Transformer (Heo et al., ECCV 2024), with axial frequencies."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class Patchify(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 16, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2)


class RotaryAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        device = x.device
        qkv = self.qkv(x).unflatten(-1, (3, 2, 8))
        q, k, v = qkv.unbind(2)
        turns = rotary_turns((4, 4), 2, base=100.0, dtype=dtype, device=device)
        patches = turn(q[:, 1:].unflatten(1, (4, 4)), turns.transpose(1, 2), (1, 2), interleaved=True)
        rearrange = k[:, 1:].unflatten(1, (4, 4))
        turns = rotary_turns((4, 4), 2, base=100.0, dtype=dtype, device=device)
        patches2 = turn(rearrange, turns.transpose(1, 2), (1, 2), interleaved=True)
        k = torch.cat((k[:, :1], patches2.flatten(1, 2)), 1)
        q = torch.cat((q[:, :1], patches.flatten(1, 2)), 1)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(o.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(16, 64)
        self.fc2 = nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(16, eps=1e-6)
        self.attn = RotaryAttention()
        self.scale1 = LayerScale(16, init=1e-5)
        self.norm2 = nn.LayerNorm(16, eps=1e-6)
        self.mlp = Mlp()
        self.scale2 = LayerScale(16, init=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.scale1(self.attn(self.norm1(x)))
        return x + self.scale2(self.mlp(self.norm2(x)))


class RopeVit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(16) * 0.02)
        self.patch_embed = Patchify()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        b = image.shape[0]
        x = self.patch_embed(image).transpose(1, 2)
        x = torch.cat((self.cls_token[None].expand(b, -1, -1), x), 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))
