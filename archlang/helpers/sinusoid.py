"""Sinusoidal position embedding."""

import torch
from torch import Tensor


def sinusoid(
    size: int,
    channels: int,
    dtype: torch.dtype,
    device: torch.device,
    base: float = 10000.0,
    interleaved: bool = True,
    past: int = 0,
) -> Tensor:
    """table[p, 2 i] = sin(p / base^(2 i / channels)), table[p, 2 i + 1] = cos of it; or all sines, then all cosines;
    p from `past`.
    """
    exact = torch.promote_types(dtype, torch.float32)
    speed = base ** -(torch.arange(0, channels, 2, dtype=exact, device=device) / channels)
    angle = torch.arange(past, past + size, dtype=exact, device=device)[:, None] * speed
    return torch.stack((angle.sin(), angle.cos()), -1 if interleaved else 1).flatten(1).to(dtype)
