"""Maps that windows do not divide: zeros behind them until windows fit, and off again."""

from typing import Any, ClassVar

from archlang.facts import Condition, Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Axes, AxisMap, Emission, OpError, Primitive, Term, Types, axes_of, need_axes, register
from archlang.primitives.domain import Cells, Domain, cells_of
from archlang.primitives.padding import Pad
from archlang.shapes import TensorType
from archlang.sizes import Size


@register
class PadToFit(Primitive):
    """Zeros behind the axes `on`, as few as make each a multiple of its window: `x -> pad_to_fit(windows(7))`.

    An axis that is no larger than the window stays, as it is one window. `crop` takes them off again.
    """

    name: ClassVar[str] = "pad_to_fit"

    over: Domain
    on: Axes = ("space",)

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, self.on)
        cells = cells_of(self.over)
        if cells is None:
            raise OpError("A319", f"`pad_to_fit` takes a partition of the map into windows, not `{self.over}`", "over")
        for name in axes_of(self.on, x):
            window = cells.extent(x[name])
            if isinstance(window, int) and window < 1:
                raise OpError("A319", f"a window has at least 1 position, not {window} along `{name}`", "over")
        return x.resized(**{name: size + spare for name, size, spare in self._spare(facts, cells, x)})

    def _spare(self, facts: Facts | None, cells: Cells, x: TensorType) -> list[tuple[str, Size, Size]]:
        """Each axis with its size and how much comes behind it."""
        found: list[tuple[str, Size, Size]] = []
        for name in axes_of(self.on, x):
            size, window = x.size(name), cells.extent(x[name])
            if isinstance(size, int) and isinstance(window, int):
                found.append((name, size, -size % window))
            elif facts is None or facts.divides(window, size):
                found.append((name, size, 0))
            else:
                title = f"`pad_to_fit` needs the size of `{name}` at compile time, and it is {size}"
                raise OpError("A319", title, "x")
        return found

    def _pad(self, x: TensorType) -> Pad | None:
        cells = cells_of(self.over)
        assert cells is not None
        amounts = tuple((name, (0, spare)) for name, _, spare in self._spare(None, cells, x) if spare != 0)
        return Pad(amounts=AxisMap(amounts)) if amounts else None

    def emit(self, code: Emission, x: Term) -> Term:
        pad = self._pad(code.inputs[0])
        return pad.emit(code, x) if pad else x

    def memory(self, x: TensorType) -> Memory:
        return Memory(view=self._pad(x) is None)

    def reference(self, types: Types, x: Named) -> Named:
        pad = self._pad(types.inputs[0])
        return pad.reference(types, x) if pad else x

    def mixes(self, x: TensorType) -> frozenset[str]:
        pad = self._pad(x)
        return pad.mixes(x) if pad else frozenset()


@register
class Crop(Primitive):
    """The first positions of x along the axes `on`, as many as `like` has."""

    name: ClassVar[str] = "crop"
    saves: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("x", "like")

    on: Axes = ("space",)

    def infer(self, facts: Facts, x: TensorType, like: TensorType) -> TensorType:
        sizes = {}
        for name in axes_of(self.on, x):
            need_axes(like, [name], "like")
            sizes[name], own = like.size(name), x.size(name)
            if not facts.require(Condition("<=", sizes[name], own)):
                raise OpError("A204", f"axis `{name}` has {own} in `x`, and `like` has {sizes[name]}", "like")
        return x.resized(**sizes)

    def _cut(self, x: TensorType, like: TensorType) -> list[str]:
        return [name for name in axes_of(self.on, x) if x.size(name) != like.size(name)]

    def mixes(self, x: TensorType, like: TensorType) -> frozenset[str]:
        return frozenset(self._cut(x, like))

    def emit(self, code: Emission, x: Term, like: Term) -> Term:
        made, cut = code.outputs[0], self._cut(*code.inputs)
        index = [f":{code.size(made.size(name))}" if name in cut else ":" for name in x.order]
        while index and index[-1] == ":":
            index.pop()
        return Term(f"{x.safe}[{', '.join(index)}]", x.order) if index else x

    def reference(self, types: Types, x: Named, like: Named) -> Named:
        made = types.outputs[0]
        tensor = x.tensor
        for at, name in enumerate(x.names):
            size: Any = made.size(name)
            tensor = tensor.narrow(at, 0, size)
        return Named(tensor, x.names)
