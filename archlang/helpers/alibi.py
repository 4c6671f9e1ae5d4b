"""Attention with linear biases."""

import torch
from torch import Tensor


def alibi(heads: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """bias[head, i, j] = -slope[head] |i - j|, the slopes from 2^(-8 / heads) down to 2^-8."""
    power = 1 << (heads.bit_length() - 1)
    exact = torch.promote_types(dtype, torch.float32)
    step = torch.arange(1, heads + 1, dtype=exact, device=device)
    slopes = torch.exp2(torch.where(step <= power, -8 * step, 4 - 8 * (step - power)) / power)
    place = torch.arange(size, dtype=exact, device=device)
    return (-slopes[:, None, None] * (place[:, None] - place).abs()).to(dtype)
