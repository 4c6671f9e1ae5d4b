"""Rotary position embedding."""

import torch
from torch import Tensor


def rotary(x: Tensor, axis: int, base: float = 10000.0, dim: int | None = None, interleaved: bool = False) -> Tensor:
    """Turn the pairs of the first `dim` channels of x (the last axis) at place p of `axis` by p * base^(-2 i / dim)."""
    dim = x.shape[-1] if dim is None else dim
    dtype = torch.promote_types(x.dtype, torch.float32)
    speed = 1.0 / base ** (torch.arange(0, dim, 2, dtype=dtype, device=x.device) / dim)
    angle = torch.arange(x.shape[axis], dtype=dtype, device=x.device)[:, None] * speed
    angle = angle.view(-1, *(1,) * (x.ndim - axis - 2), dim // 2)
    turned = x[..., :dim]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    cos, sin = angle.cos(), angle.sin()
    a, b = a * cos - b * sin, b * cos + a * sin
    turned = torch.stack((a, b), -1).flatten(-2) if interleaved else torch.cat((a, b), -1)
    return torch.cat((turned.to(x.dtype), x[..., dim:]), -1) if dim < x.shape[-1] else turned.to(x.dtype)
