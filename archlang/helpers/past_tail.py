"""The last positions before a window that slides over time."""

import torch
from torch import Tensor

from archlang.helpers.carried_state import CarriedState


class PastTail(CarriedState):
    """The last positions along an axis, as many as the shape has; zeros before the first one."""

    def forward(self, x: Tensor, axis: int) -> Tensor:
        """x behind those before it."""
        return torch.cat((self.before(x, axis), x), axis)

    def before(self, x: Tensor, axis: int) -> Tensor:
        """Those before x."""
        count = self.shape[axis] or 0
        sizes = [count if place == axis % x.ndim else size for place, size in enumerate(x.shape)]
        before = x.new_zeros(sizes) if self.held is None else self.held
        seen = torch.cat((before, x.narrow(axis, max(0, x.shape[axis] - count), min(count, x.shape[axis]))), axis)
        self.keep(seen.narrow(axis, seen.shape[axis] - count, count).contiguous())
        return before
