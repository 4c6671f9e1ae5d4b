"""The speeds of rotary positions in Llama 3.1."""

from math import pi

import torch
from torch import Tensor


def llama3_speeds(
    pairs: int,
    base: float,
    factor: float,
    original: int,
    low: float,
    high: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """base^(-i / pairs) for pairs that turn more than `high` times in `original` positions, a `factor`-th of it for
    those that turn less than `low` times, and what lies between for the others.
    """
    exact = torch.promote_types(dtype, torch.float32)
    speeds = 1.0 / base ** (torch.arange(pairs, dtype=exact, device=device) / pairs)
    kept = ((original * speeds / (2 * pi) - low) / (high - low)).clamp(0, 1)
    return speeds * (kept + (1 - kept) / factor)
