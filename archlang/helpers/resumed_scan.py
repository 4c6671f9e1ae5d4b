"""First-order linear recurrences that go on."""

from torch import Tensor

from archlang.helpers.carried_state import CarriedState
from archlang.helpers.linear_scan import linear_scan


def resumed_scan(last: CarriedState, decay: Tensor | float, x: Tensor, start: Tensor | None = None) -> Tensor:
    """h[t] = decay[t] * h[t - 1] + x[t] along the first axis, from the h that is `last`, at first from `start`."""
    h = linear_scan(decay, x, start if last.held is None else last.held)
    last.keep(h[-1].clone())
    return h
