"""Keys or values that all queries see."""

import torch
from torch import Tensor


def append_keys(x: Tensor, extra: Tensor) -> Tensor:
    """x[.., places, c] with the places of `extra` behind its own; what `extra` lacks is repeated."""
    return torch.cat([x, extra.expand(*x.shape[:-2], *extra.shape[-2:])], -2)
