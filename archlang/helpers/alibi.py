"""Attention with linear biases."""

import torch
from torch import Tensor


def alibi(heads: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """bias[head, i, j] = -slope[head] |i - j|, the slopes from 2^(-8 / heads) down to 2^-8."""
    power = 1 << (heads.bit_length() - 1)
    exponents = [8 * (head + 1) / power for head in range(power)]
    exponents += [4 * (2 * head + 1) / power for head in range(heads - power)]
    exact = torch.promote_types(dtype, torch.float32)
    slopes = torch.tensor([2**-exponent for exponent in exponents], dtype=exact, device=device)
    place = torch.arange(size, dtype=exact, device=device)
    return (-slopes[:, None, None] * (place[:, None] - place).abs()).to(dtype)
