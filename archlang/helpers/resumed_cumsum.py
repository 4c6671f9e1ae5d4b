"""Sums of all positions so far."""

from torch import Tensor

from archlang.helpers.carried_state import CarriedState


def resumed_cumsum(x: Tensor, axis: int, total: CarriedState) -> Tensor:
    """y[t] = x[0] + .. + x[t] along an axis, of which `total` holds the sum before x."""
    y = x.cumsum(axis)
    y = y if total.held is None else y + total.held.unsqueeze(axis)
    total.keep(y.select(axis, -1).clone())
    return y
