"""RoPE-ViT: Rotary Position Embedding for Vision Transformer (Heo et al., ECCV 2024), with axial frequencies."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def axial_rotary(
    x: Tensor,
    axes: Sequence[int],
    base: float = 10000.0,
    dim: int | None = None,
    interleaved: bool = False,
    step: float = 1.0,
    speeds: Tensor | None = None,
    gain: float = 1.0,
) -> Tensor:
    """Turn the pairs of the first `dim` channels of x (the last axis), an equal share of them along each axis: pair i
    of a share at place p by p * step * base^(-i / pairs), or p * speeds[i]. `gain` multiplies what is turned.
    """
    dim = x.shape[-1] if dim is None else dim
    pairs = dim // 2 // len(axes)
    dtype = torch.promote_types(x.dtype, torch.float32)
    if speeds is None:
        speeds = step / base ** (torch.arange(pairs, dtype=dtype, device=x.device) / pairs)
    angles = [torch.arange(x.shape[axis], dtype=dtype, device=x.device)[:, None] * speeds for axis in axes]
    angles = [angle.view(-1, *(1,) * (x.ndim - axis - 2), pairs) for angle, axis in zip(angles, axes, strict=True)]
    space = [size if axis in axes else 1 for axis, size in enumerate(x.shape[:-1])][min(axes) :]
    angle = torch.cat([angle.expand(*space, pairs) for angle in angles], -1)
    turned = x[..., :dim]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    cos, sin = angle.cos() * gain, angle.sin() * gain
    a, b = a * cos - b * sin, b * cos + a * sin
    turned = torch.stack((a, b), -1).flatten(-2) if interleaved else torch.cat((a, b), -1)
    return torch.cat((turned.to(x.dtype), x[..., dim:]), -1)


class LayerScale(nn.Module):
    """y = gamma x over the last axes."""

    def __init__(self, *shape: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


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
        qkv = self.qkv(x).unflatten(-1, (3, 2, 8))
        q, k, v = qkv.unbind(2)
        patches = axial_rotary(q[:, 1:].unflatten(1, (4, 4)), (2, 1), base=100.0, interleaved=True)
        patches2 = axial_rotary(k[:, 1:].unflatten(1, (4, 4)), (2, 1), base=100.0, interleaved=True)
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
