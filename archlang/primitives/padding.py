"""Operations that make positions of axes or move them: padding, rolling, reversing."""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator

from archlang.facts import Condition, Facts
from archlang.named import Named
from archlang.primitive import (
    Axes,
    AxisMap,
    Emission,
    Number,
    OpError,
    Primitive,
    Term,
    Types,
    axes_of,
    describe,
    need_axes,
    need_named,
    register,
)
from archlang.primitives.broadcast import dims, refuse
from archlang.shapes import TensorType
from archlang.sizes import Poly


def _amounts(value: Any) -> Any:
    pairs = [(name, tuple(pair) if isinstance(pair, tuple | list) else (pair, pair)) for name, pair in _items(value)]
    for name, pair in pairs:
        if len(pair) != 2 or not all(isinstance(side, Poly) or (isinstance(side, int) and side >= 0) for side in pair):
            raise ValueError(
                f"must be how much comes before and behind each axis, and is {describe(pair[0])} for `{name}`"
            )
    return AxisMap(tuple(pairs))


def _shifts(value: Any) -> Any:
    for name, shift in _items(value):
        if isinstance(shift, bool) or not isinstance(shift, int | Poly):
            raise ValueError(f"must be whole numbers, and is {describe(shift)} for `{name}`")
    return AxisMap(tuple(_items(value)))


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, AxisMap | dict):
        return value.items if isinstance(value, AxisMap) else value.items()
    raise ValueError("names its axes: `[h = [0, 1], w = [0, 1]]`")


Amounts: TypeAlias = Annotated[AxisMap, BeforeValidator(_amounts)]
_MODES = {
    "zeros": "constant",
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}


@register
class Pad(Primitive):
    """More positions before and behind: `pad(x, [h = [0, 1], w = [2, 2]])`, or `[t = 1]` for as many on both sides.

    They hold `value` ("zeros"), the mirrored values ("reflect"), the last value ("replicate"), or those of the other
    end ("circular").
    """

    name: ClassVar[str] = "pad"
    saves: ClassVar[tuple[str, ...]] = ()

    amounts: Amounts
    mode: str = "zeros"
    value: Number = 0

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        names = [name for name, _ in self.amounts.items]
        need_named(x, names)
        if self.mode not in _MODES:
            raise OpError("A319", f'there is no mode "{self.mode}"', "mode", "zeros, reflect, replicate or circular")
        if self.mode in ("reflect", "replicate") and x.dtype == "bool":
            raise refuse(x, f'"{self.mode}" padding takes numbers', "`cast(x, int)`")
        if self.mode not in ("zeros", "constant") and len(names) > 3:
            raise OpError("A319", f'"{self.mode}" pads at most 3 axes at once', "mode")
        for name, pair in self.amounts.items:
            most = x.size(name) - (1 if self.mode == "reflect" else 0)
            for side in pair if self.mode in ("reflect", "circular") else ():
                if not facts.require(Condition("<=", side, most), f'"{self.mode}" padding of `{name}`'):
                    raise OpError(
                        "A204", f'"{self.mode}" padding of `{name}` is at most {most}, and here {side}', "amounts"
                    )
        return x.resized(**{name: x.size(name) + pair[0] + pair[1] for name, pair in self.amounts.items})

    def emit(self, code: Emission, x: Term) -> Term:
        names = [name for name in x.order if name in dict(self.amounts.items)]
        if self.mode in ("zeros", "constant"):
            return Term(self.write(code, x, x.order[x.order.index(names[0]) :]), x.order)
        others = [name for name in x.order if name not in names]
        if len(others) in (1, 2):
            x = code.last(x, names)
            return Term(self.write(code, x, names), x.order)
        flat = code.last(code.flat(x, others, "rest"), names)
        return code.split(
            Term(self.write(code, flat, names), flat.order), "rest", [code.inputs[0][name] for name in others]
        )

    def write(self, code: Emission, x: Term, names: Iterable[str]) -> str:
        """The call; `names` are the last axes."""
        amounts = dict(self.amounts.items)
        sides = [code.size(side) for name in reversed(list(names)) for side in amounts.get(name, (0, 0))]
        mode = f', "{_MODES[self.mode]}"' if self.mode not in ("zeros", "constant") else ""
        value = f", value={code.const(self.value)}" if self.value and not mode else ""
        return f"F.pad({x.code}, ({', '.join(sides)}){mode}{value})"

    def reference(self, types: Types, x: Named) -> Named:
        for name, pair in self.amounts.items:
            before, behind = map(int, pair)
            size = x.size(name)
            places = [self.source(i, size) for i in range(-before, size + behind)]
            x = Named(_picked(x.tensor, x.at(name), places, self.value), x.names)
        return x

    def source(self, i: int, size: int) -> int | None:
        """The position whose value stands at position i, which may be outside; None for `value`."""
        if 0 <= i < size:
            return i
        if self.mode == "circular":
            return i % size
        outside = {"reflect": -i if i < 0 else 2 * (size - 1) - i, "replicate": 0 if i < 0 else size - 1}
        return outside.get(self.mode)

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(name for name, _ in self.amounts.items)

    def looks_ahead(self, x: TensorType) -> frozenset[str]:
        if self.mode not in ("reflect", "circular"):
            return frozenset()
        return frozenset(name for name, (before, _) in self.amounts.items if before != 0)


def _picked(tensor: Any, place: int, sources: list[int | None], value: Any) -> Any:
    import torch

    outside = tensor.new_full((*tensor.shape[:place], *tensor.shape[place + 1 :]), value)
    return torch.stack([outside if i is None else tensor.select(place, i) for i in sources], place)


@register
class Roll(Primitive):
    """y[i + shift] = x[i], around the ends: `roll(x, [h = 3, w = 3])`."""

    name: ClassVar[str] = "roll"
    saves: ClassVar[tuple[str, ...]] = ()

    shift: Annotated[AxisMap, BeforeValidator(_shifts)]

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_named(x, [name for name, _ in self.shift.items])
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        shifts = sorted(
            ((x.order.index(name), code.size(shift)) for name, shift in self.shift.items), key=lambda pair: pair[0]
        )
        if len(shifts) == 1:
            return Term(f"{x.safe}.roll({shifts[0][1]}, {dims(x, [self.shift.items[0][0]])})", x.order)
        return Term(
            f"{x.safe}.roll(({', '.join(shift for _, shift in shifts)}), ({', '.join(str(at) for at, _ in shifts)}))",
            x.order,
        )

    def reference(self, types: Types, x: Named) -> Named:
        for name, shift in self.shift.items:
            x = x.select(name, [(i - int(shift)) % x.size(name) for i in range(x.size(name))])
        return x

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(name for name, _ in self.shift.items)


@register
class Flip(Primitive):
    """The positions along the axes `on` in reverse."""

    name: ClassVar[str] = "flip"
    saves: ClassVar[tuple[str, ...]] = ()

    on: Axes

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, self.on)
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(f"{x.safe}.flip({dims(x, axes_of(self.on, code.inputs[0]))})", x.order)

    def reference(self, types: Types, x: Named) -> Named:
        for name in axes_of(self.on, types.inputs[0]):
            x = x.select(name, list(range(x.size(name)))[::-1])
        return x

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, x))
