"""Sinusoidal position embedding of a map."""

from collections.abc import Sequence

import torch
from torch import Tensor

from archlang.helpers.sinusoid import sinusoid


def axial_sinusoid(
    sizes: Sequence[int],
    channels: int,
    dtype: torch.dtype,
    device: torch.device,
    base: float = 10000.0,
    interleaved: bool = True,
) -> Tensor:
    """[*sizes, channels]: the sinusoids of each axis in an equal share of the channels."""
    tables = []
    for axis, size in enumerate(sizes):
        table = sinusoid(size, channels // len(sizes), dtype, device, base, interleaved)
        others = [1] * len(sizes)
        tables.append(table.view(*others[:axis], size, *others[axis + 1 :], -1).expand(*sizes, -1))
    return torch.cat(tables, -1)
