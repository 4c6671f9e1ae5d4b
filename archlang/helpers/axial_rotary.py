"""Rotary position embedding along several axes, or with speeds of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
