"""Sums of curves that are sums of fixed functions."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor


def basis_linear(x: Tensor, weight: Tensor, basis: Callable[..., Tensor], *given: Any) -> Tensor:
    """y[.., u] = sum over c and k of weight[u, (c, k)] basis(x[.., c])[k]; `given` goes to the basis."""
    return F.linear(basis(x, *given).flatten(-2), weight)
