"""The block of each position."""

import torch
from torch import Tensor


def chunk_span(
    size: int, chunk: int, causal: bool = False, start: int = 0, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The first and the last position of the block of each of an axis; up to itself where it is causal. A block begins
    at `start`.
    """
    i = torch.arange(size, device=device)
    first = i - (i - start) % chunk
    return first.clamp(min=0), i if causal else (first + chunk - 1).clamp(max=size - 1)
