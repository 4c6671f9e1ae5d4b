"""Tokens that move, each group of channels by a distance of its own."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def shift_groups(x: torch.Tensor, by: Sequence[int], axis: int, channels: int, circular: bool = False) -> torch.Tensor:
    """Group i of the channels moved by `by[i]` along an axis; zeros follow, or with `circular` what left at the end."""
    groups = x.chunk(len(by), channels)
    if circular:
        return torch.cat([group.roll(step, axis) for group, step in zip(groups, by, strict=True)], channels)
    reach, size = max(map(abs, by)), x.shape[axis]
    border = (0, 0) * (x.ndim - 1 - axis) + (reach, reach)
    moved = [F.pad(group, border).narrow(axis, reach - step, size) for group, step in zip(groups, by, strict=True)]
    return torch.cat(moved, channels)
