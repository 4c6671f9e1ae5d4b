"""What keeps shifted windows from joining the two sides of a map."""

from collections.abc import Sequence

import torch
from torch import Tensor


def shift_bias(
    space: Sequence[int],
    window: Sequence[int],
    shift: Sequence[int],
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """0 where two places of a shifted window are neighbours on the map, -inf where the shift wrapped one of them:
    [windows, 1, places, places].
    """
    same = torch.ones(1, 1, 1, dtype=torch.bool, device=device)
    for size, side, step in zip(space, window, shift, strict=True):
        wrapped = (torch.arange(size, device=device) >= size - step).reshape(-1, side)
        pairs = wrapped[:, :, None] == wrapped[:, None]
        same = same[:, None, :, None, :, None] & pairs[None, :, None, :, None]
        same = same.flatten(0, 1).flatten(1, 2).flatten(2)
    return torch.zeros((), dtype=dtype, device=device).where(same, float("-inf"))[:, None]
