"""Linear biases as a table of offsets."""

import torch
from torch import Tensor

from archlang.helpers.alibi_slopes import alibi_slopes


def alibi_by_offset(heads: int, size: int, step: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """bias[head, o] = -slope[head] step |o - size // 2|, for offsets from query to key in steps of a domain."""
    slopes = alibi_slopes(heads, dtype, device)
    offset = torch.arange(size, dtype=slopes.dtype, device=device) - size // 2
    return (-step * slopes[:, None] * offset.abs()).to(dtype)
