"""The block of each position."""

import torch
from torch import Tensor


def chunk_span(
    size: int, chunk: int, causal: bool = False, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The first and the last position of the block of each of an axis; up to itself where it is causal."""
    i = torch.arange(size, device=device)
    first = i - i % chunk
    return first, i if causal else (first + chunk - 1).clamp(max=size - 1)
