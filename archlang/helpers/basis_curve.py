"""Curves of single channels that are sums of fixed functions."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def basis_curve(x: Tensor, weight: Tensor, basis: Callable[..., Tensor], *given: Any) -> Tensor:
    """y[.., c] = sum over k of weight[c, k] basis(x[.., c])[k]; `given` goes to the basis."""
    return (basis(x, *given) * weight).sum(-1)
