"""Weights in the precision in which they are folded."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn


def wide(x: Any) -> Any:
    """A tensor, or a layer, in float32 at least: what is made of it is rounded once."""
    if isinstance(x, nn.Module):
        exact = all(wide(weight).dtype == weight.dtype for weight in x.parameters())
        return x if exact else deepcopy(x).float()
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))
