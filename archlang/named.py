"""Tensors with named axes: the notation in which primitives state their meaning. Slow and obvious; torch is imported by
who makes one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A torch tensor whose axes have names; arithmetic broadcasts by name."""

    tensor: Any
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.tensor.ndim == len(self.names), (tuple(self.tensor.shape), self.names)

    def size(self, name: str) -> int:
        return int(self.tensor.shape[self.names.index(name)])

    def at(self, name: str) -> int:
        """The position of an axis."""
        return self.names.index(name)

    def to(self, names: Iterable[str]) -> Any:
        """The torch tensor with exactly these axes in this order; axes that it lacks have size 1."""
        names = tuple(names)
        here = [name for name in names if name in self.names]
        tensor = self.tensor.permute([self.names.index(name) for name in here])
        return tensor[tuple(slice(None) if name in self.names else None for name in names)]

    def map(self, function: Callable[[Any], Any]) -> "Named":
        """An elementwise function."""
        return Named(function(self.tensor), self.names)

    def reduce(self, function: Callable[..., Any], on: Iterable[str]) -> "Named":
        """`function(tensor, dim)` over the axes `on`, which it drops."""
        gone = tuple(on)
        kept = tuple(name for name in self.names if name not in gone)
        return (
            Named(function(self.to((*kept, *gone)), tuple(range(len(kept), len(self.names)))), kept) if gone else self
        )

    def sum(self, on: Iterable[str]) -> "Named":
        return self.reduce(lambda x, dim: x.sum(dim), on)

    def mean(self, on: Iterable[str]) -> "Named":
        return self.reduce(lambda x, dim: x.mean(dim), on)

    def rename(self, /, **names: str) -> "Named":
        """`rename(old="new")`."""
        return Named(self.tensor, tuple(names.get(name, name) for name in self.names))

    def select(self, name: str, index: Any) -> "Named":
        """Index one axis: an int drops it, a slice or list keeps it."""
        picked = self.tensor[(slice(None),) * self.at(name) + (index,)]
        return Named(picked, tuple(n for n in self.names if n != name) if isinstance(index, int) else self.names)

    def combine(self, other: Any, function: Callable[[Any, Any], Any]) -> "Named":
        """An elementwise function of two values that broadcasts by name."""
        if not isinstance(other, Named):
            return self.map(lambda x: function(x, other))
        names = (*self.names, *(name for name in other.names if name not in self.names))
        return Named(function(self.to(names), other.to(names)), names)

    def __add__(self, other: Any) -> "Named":
        return self.combine(other, lambda a, b: a + b)

    def __sub__(self, other: Any) -> "Named":
        return self.combine(other, lambda a, b: a - b)

    def __mul__(self, other: Any) -> "Named":
        return self.combine(other, lambda a, b: a * b)

    def __truediv__(self, other: Any) -> "Named":
        return self.combine(other, lambda a, b: a / b)

    __radd__, __rmul__ = __add__, __mul__
