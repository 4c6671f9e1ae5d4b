"""A span of positions around each."""

import torch
from torch import Tensor


def band_span(size: int, before: int, after: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """The first and the last position that each of an axis sees: `before` back, `after` ahead."""
    i = torch.arange(size, device=device)
    return (i - before).clamp(min=0), (i + after).clamp(max=size - 1)
