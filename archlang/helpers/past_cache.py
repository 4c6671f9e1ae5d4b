"""Keys and values of all positions so far."""

from torch import Tensor

from archlang.helpers.carried_state import CarriedState


class PastCache(CarriedState):
    """The keys, or values, of all positions so far [.., t, c]. Where room ends, half as much again is made."""

    capacity = 0  # positions that there is room for from the start

    def forward(self, x: Tensor, past: int) -> Tensor:
        """Those of `past` positions, and x behind them."""
        size = past + x.shape[-2]
        if past == 0 or self.held is None or self.held.shape[-2] < size:
            self.held = self.grown(x, past, size)
        self.held[..., past:size, :] = x
        return self.held[..., :size, :]

    def grown(self, x: Tensor, past: int, size: int) -> Tensor:
        """What was held, with more room."""
        count = self.capacity if size <= self.capacity else size + size // 2 + 16
        room = x.new_empty(*x.shape[:-2], count, x.shape[-1])
        if past > 0 and self.held is not None:
            room[..., :past, :] = self.held[..., :past, :]
        return room

    def settle(self) -> None:
        """What is behind the positions that the model counts is written again."""

    def saved(self, past: int) -> Tensor | None:
        return None if self.held is None else self.held[..., : past // self.pace, :]

    def shape_after(self, past: int) -> tuple[int | None, ...]:
        return (*self.shape[:-2], past // self.pace, *self.shape[-1:])
