"""Channels turned in pairs."""

from collections.abc import Sequence

import torch
from torch import Tensor


def turn(x: Tensor, turns: Tensor, axes: Sequence[int], interleaved: bool = False) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin) for pairs of the first channels of x (the last axis), with the cos and
    sin of each place along `axes`: turns [2, *places, pairs].
    """
    dim = 2 * turns.shape[-1]
    places = [size if axis in axes else 1 for axis, size in enumerate(x.shape[:-1])][min(axes) :]
    cos, sin = turns.reshape(2, *places, dim // 2)
    turned = x[..., :dim]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    a, b = a * cos - b * sin, b * cos + a * sin
    turned = torch.stack((a, b), -1).flatten(-2) if interleaved else torch.cat((a, b), -1)
    return torch.cat((turned.to(x.dtype), x[..., dim:]), -1) if dim < x.shape[-1] else turned.to(x.dtype)
