"""What several spans have in common."""

import torch
from torch import Tensor


def span_overlap(*spans: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The spans from the latest of the first positions to the earliest of the last."""
    firsts, lasts = zip(*spans, strict=True)
    return torch.stack(firsts).amax(0), torch.stack(lasts).amin(0)
