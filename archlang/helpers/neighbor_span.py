"""The nearest positions of each."""

import torch
from torch import Tensor


def neighbor_span(
    size: int, count: int, dilation: int = 1, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The first and the last of the `count` positions nearest to each of an axis, `dilation` apart; at a border they
    move inwards.
    """
    i = torch.arange(size, device=device)
    end = size - 1 - (size - 1 - i % dilation) % dilation  # the last position of the same residue class
    span = (count - 1) * dilation
    first = (i - count // 2 * dilation).maximum(i % dilation).minimum(end - span)
    return first, first + span
