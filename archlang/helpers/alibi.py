"""Attention with linear biases."""

import torch
from torch import Tensor

from archlang.helpers.alibi_slopes import alibi_slopes


def alibi(heads: int, size: int, dtype: torch.dtype, device: torch.device, past: int = 0) -> Tensor:
    """bias[head, i, j] = -slope[head] |i - j|, for the queries behind `past` ones and all keys"""
    slopes = alibi_slopes(heads, dtype, device)
    place = torch.arange(past + size, dtype=slopes.dtype, device=device)
    return (-slopes[:, None, None] * (place[past:, None] - place).abs()).to(dtype)
