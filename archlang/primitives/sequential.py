"""What runs along one axis, position after position."""

from functools import cache
from typing import Any, ClassVar

from archlang.primitive import AxisName, OpError, Primitive, need_axes, need_named
from archlang.shapes import TensorType


class Sequential(Primitive):
    """An operation along one axis `on` of its first input: the axis of time or, where there is none, the one of space;
    in `reverse` from its end.
    """

    sequential: ClassVar[bool] = True

    on: AxisName | None = None
    reverse: bool = False

    @classmethod
    @cache
    def kinds(cls) -> dict[str, str]:
        """What an operation is about comes before where it runs."""
        kinds = super().kinds()
        return {name: kinds[name] for name in sorted(kinds, key=lambda name: name in ("on", "reverse"))}

    def axis(self, x: TensorType) -> str:
        """The axis that it runs along."""
        if self.on is not None:
            need_axes(x, (self.on,), self.inputs[0])
            need_named(x, (self.on,), self.inputs[0])
            return self.on
        found = x.of_role("time") or x.of_role("space")
        if len(found) == 1:
            return found[0]
        if not found:
            title = f"`{self.name}` runs along an axis of time or space, and there is none in {x}"
            raise OpError("A205", title, self.inputs[0], "name it: `on = AXIS`")
        names = ", ".join(found)
        title = f"`{self.name}` runs along one axis, and {x} has {' and '.join(f'`{name}`' for name in found)}"
        raise OpError("A206", title, self.inputs[0], f"say in which order: `over = along({names})`")

    def mixes(self, x: TensorType, *others: Any) -> frozenset[str]:
        return frozenset({self.axis(x)})

    def looks_ahead(self, x: TensorType, *others: Any) -> frozenset[str]:
        return self.mixes(x, *others) if self.reverse else frozenset()

    def steps_in_time(self, x: TensorType) -> bool:
        """Whether it may run one position of time after another."""
        return x[self.axis(x)].role == "time" and not self.reverse
