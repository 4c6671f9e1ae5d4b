"""Keys and values of the last few positions."""

import torch
from torch import Tensor

from archlang.helpers.carried_state import CarriedState


class RecentPast(CarriedState):
    """The keys, or values, of the last positions [.., t, c], as many as the shape has."""

    def forward(self, x: Tensor) -> Tensor:
        """What the positions of x see: those before that its first one does, and x behind them."""
        count = self.shape[-2] or 0
        if self.held is not None and count > 1:
            x = torch.cat((self.held[..., 1 - count :, :], x), -2)
        self.keep(x[..., -count:, :].contiguous())
        return x

    def shape_after(self, past: int) -> tuple[int | None, ...]:
        return (*self.shape[:-2], min(past // self.pace, self.shape[-2] or 0), *self.shape[-1:])
