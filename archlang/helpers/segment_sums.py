"""Sums over segments of a sequence."""

import torch
from torch import Tensor


def segment_sums(x: Tensor) -> Tensor:
    """[.., n] -> [.., n, n]: at (i, j) the sum of x after j up to i, -inf where j is after i."""
    n, total = x.shape[-1], x.cumsum(-1)
    ahead = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
    return (total[..., :, None] - total[..., None, :]).masked_fill(ahead, float("-inf"))
