"""Attention with linear biases."""

import torch
from torch import Tensor

from archlang.helpers.alibi_slopes import alibi_slopes


def alibi(heads: int, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """bias[head, i, j] = -slope[head] |i - j|"""
    slopes = alibi_slopes(heads, dtype, device)
    place = torch.arange(size, dtype=slopes.dtype, device=device)
    return (-slopes[:, None, None] * (place[:, None] - place).abs()).to(dtype)
