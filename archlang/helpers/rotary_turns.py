"""The turns of rotary position embedding."""

from collections.abc import Sequence

import torch
from torch import Tensor


def rotary_turns(
    places: Sequence[int],
    pairs: int,
    base: float = 10000.0,
    step: float = 1.0,
    speeds: Tensor | None = None,
    gain: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    past: int = 0,
) -> Tensor:
    """[cos, sin] of the angles at the places of a map, `gain` times: [2, *places, pairs of all axes]. Each axis has its
    own share of the pairs: pair i at place p turns by p * step * base^(-i / pairs), or p * speeds[i].
    Along the first one, `past` places come before.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    if speeds is None:
        speeds = step / base ** (torch.arange(pairs, dtype=dtype, device=device) / pairs)
    angles = []
    for axis, size in enumerate(places):
        first = 0 if axis else past
        angle = torch.arange(first, first + size, dtype=dtype, device=device)[:, None] * speeds
        angles.append(angle.view(-1, *(1,) * (len(places) - axis - 1), pairs).expand(*places, pairs))
    angle = torch.cat(angles, -1)
    return torch.stack((angle.cos(), angle.sin())) * gain
