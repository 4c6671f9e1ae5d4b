"""What positions of a sequence leave to those after them."""

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn


class CarriedState(nn.Module):
    """A tensor that one call leaves to the next: it moves with the network, and is no part of the `state_dict`. `shape`
    has None for what may have any size; the first axis is that of the samples. Of `pace` positions of the network, one
    comes here.
    """

    def __init__(self, *shape: int | None, pace: int = 1) -> None:
        super().__init__()
        self.shape, self.pace = shape, pace
        self.held: Tensor | None = None  # after the last call that came to its end
        self.made: Tensor | None = None  # by the call at hand

    def reset(self) -> None:
        """Nothing was seen."""
        self.held = self.made = None

    def keep(self, value: Tensor) -> Tensor:
        """Leave a value to the next call; returns it."""
        self.made = value
        return value

    def settle(self) -> None:
        """The call at hand has come to its end."""
        self.held, self.made = self.made, None

    def saved(self, past: int) -> Tensor | None:
        """What there is after so many positions."""
        return self.held

    def shape_after(self, past: int) -> tuple[int | None, ...]:
        """The shape of that."""
        return self.shape

    def check(self, name: str, value: Tensor, samples: int, past: int) -> None:
        """Refuse a value of another shape."""
        shape = [samples, *self.shape_after(past)[1:]]
        if len(shape) != value.ndim or any(
            size not in (None, own) for size, own in zip(shape, value.shape, strict=True)
        ):
            raise ValueError(
                f"{name} must be {shape} for {samples} samples after {past} positions, not {list(value.shape)}"
            )

    def select(self, samples: Tensor) -> None:
        """Other samples, in this order."""
        self.held = None if self.held is None else self.held.index_select(0, samples.to(self.held.device))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.held = None if self.held is None else fn(self.held)
        apply: Callable[..., Any] = super()._apply
        apply(fn, recurse)
        return self
