"""The speeds of rotary positions in YaRN."""

from math import ceil, floor, log, pi

import torch
from torch import Tensor


def yarn_speeds(
    pairs: int,
    base: float,
    factor: float,
    original: int,
    fast: float,
    slow: float,
    truncate: bool = True,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """base^(-i / pairs) for pairs that turn more than `fast` times in `original` positions, a `factor`-th of it for
    those that turn less than `slow` times, and along a ramp over i for the others, between whole i with `truncate`.
    """
    exact = torch.promote_types(dtype, torch.float32)
    pair = torch.arange(pairs, dtype=exact, device=device)
    first, last = (pairs * log(original / (turns * 2 * pi)) / log(base) for turns in (fast, slow))
    if truncate:
        first, last = floor(first), ceil(last)
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    kept = 1 - ((pair - first) / max(last - first, 1e-3)).clamp(0, 1)
    return 1.0 / base ** (pair / pairs) * (kept + (1 - kept) / factor)
