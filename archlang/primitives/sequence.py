"""Moves of values between a map and a path over it."""

from collections.abc import Sequence
from itertools import product as every
from typing import ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import (
    AxisMap,
    AxisName,
    Emission,
    OpError,
    PerName,
    Primitive,
    Term,
    Types,
    need_named,
    register,
)
from archlang.primitives.broadcast import index, known, need_new
from archlang.primitives.order import Order
from archlang.shapes import Axis, TensorType, default_role
from archlang.sizes import Size, product


class _Walk(Primitive):
    """A move of values between a map and a path over it."""

    over: Order
    on: AxisName = "n"

    def places(self, code: Emission, sizes: Sequence[Size], hint: str, back: str = "") -> str:
        """The flat positions of the path in order, as code for a tensor; empty where it goes line by line."""
        if not self.over.helper:
            return ""
        call = f"{code.helper(self.over.helper)}({', '.join(map(code.size, self.over.arguments(sizes)))}"
        if all(isinstance(size, int) for size in sizes):
            return code.buffer(hint, f"{call}){back}")
        return f"{call}, device={code.device()}){back}"

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        return self.mixes(x)


@register
class ToSequence(_Walk):
    """The positions of a map in the order of a path, as one axis: y[n] = x[path(n)].

    `sequence(x, over = snake(h, w))` takes the axes h and w, in this order, for an axis `n`; `on` names another.
    """

    name: ClassVar[str] = "sequence"
    saves: ClassVar[tuple[str, ...]] = ()

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        order = self.over
        need_named(x, order.axes)
        order.check([x.size(name) for name in order.axes])
        for name in order.axes:
            if x[name].role == "time":
                raise OpError("A206", f"an order over several axes is over space, and `{name}` is time", "over")
        need_new(x.without(*order.axes), self.on, "on")
        return x.swapped(order.axes, [self._made(x)])

    def _made(self, x: TensorType) -> Axis:
        return Axis(self.on, product(x.size(name) for name in self.over.axes), default_role(self.on))

    def emit(self, code: Emission, x: Term) -> Term:
        flat = _side_by_side(code, x, self.over.axes, self.on)
        places = self.places(code, [code.inputs[0].size(name) for name in self.over.axes], "path")
        if places:
            flat = Term(index(flat, {self.on: places}), flat.order)
        if self.over.reverse:
            flat = Term(f"{flat.safe}.flip({flat.at(self.on)})", flat.order)
        return flat

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        axes = self.over.axes
        rest = tuple(name for name in x.names if name not in axes)
        values, steps = x.to((*axes, *rest)), self.over.path([x.size(name) for name in axes])
        rows = [values[place] for place in steps]
        return Named(torch.stack(rows[::-1] if self.over.reverse else rows), (self.on, *rest))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(self.over.axes)


@register
class Unsequence(_Walk):
    """A path put back on its map: y[path(n)] = x[n], what `sequence` undoes.

    `unsequence(x, over = snake(h, w), h = 7, w = 7)`.
    """

    name: ClassVar[str] = "unsequence"
    saves: ClassVar[tuple[str, ...]] = ()

    sizes: PerName = AxisMap(())

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        order = self.over
        need_named(x, (self.on,))
        given = dict(self.sizes.items)
        for name in order.axes:
            if name not in given:
                raise OpError("A301", f"`unsequence` needs the size of `{name}`", None, f"`{name} = ...`")
            need_new(x.without(self.on), name, "over")
        order.check([given[name] for name in order.axes])
        count = product(given[name] for name in order.axes)
        if not facts.equal(count, x.size(self.on)):
            shown = " * ".join(str(given[name]) for name in order.axes)
            raise OpError("A204", f"axis `{self.on}` has {x.size(self.on)} positions, and the map {shown}", "x")
        return x.swapped([self.on], self._made())

    def _made(self) -> list[Axis]:
        return [Axis(name, self.sizes[name], default_role(name)) for name in self.over.axes]

    def emit(self, code: Emission, x: Term) -> Term:
        if self.over.reverse:
            x = Term(f"{x.safe}.flip({x.at(self.on)})", x.order)
        places = self.places(code, [axis.size for axis in self._made()], "back", ".argsort()")
        if places:
            x = Term(index(x, {self.on: places}), x.order)
        return code.split(x, self.on, self._made())

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        sizes = [known(axis.size) for axis in self._made()]
        rest = tuple(name for name in x.names if name != self.on)
        rows = list(x.to((self.on, *rest)))
        steps = dict(zip(self.over.path(sizes), rows[::-1] if self.over.reverse else rows, strict=True))
        values = torch.stack([steps[place] for place in every(*map(range, sizes))])
        return Named(values.reshape(*sizes, *values.shape[1:]), (*self.over.axes, *rest))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset({self.on})


def _side_by_side(code: Emission, x: Term, axes: Sequence[str], name: str) -> Term:
    """The axes flattened into one, in this order, in the place of the first of them."""
    if len(axes) == 1:
        return Term(x.code, tuple(name if other == axes[0] else other for other in x.order), x.tight)
    at = min(x.order.index(axis) for axis in axes)
    rest = [other for other in x.order if other not in axes]
    x = code.permute(x, (*rest[:at], *axes, *rest[at:]))
    last = "" if at + len(axes) == len(x.order) else f", {at + len(axes) - 1}"
    order = (*rest[:at], name, *rest[at:])
    return Term(f"{x.safe}.flatten({at}{last})", order)
