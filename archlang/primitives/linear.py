"""Linear maps and contractions over named axes."""

from collections.abc import Iterable
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.named import Named
from archlang.primitive import (
    Axes,
    Emission,
    OpError,
    Param,
    Primitive,
    Term,
    Types,
    Units,
    axes_of,
    need_axes,
    register,
)
from archlang.primitives.init import Start
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, product


def contracted(on: Iterable[str], x: TensorType) -> tuple[str, ...]:
    """The axes that `on` means in the order in which it names them, which is that of the weight, the first slowest."""
    return tuple(dict.fromkeys(name for word in on for name in axes_of((word,), x)))


@register
class Linear(Primitive):
    """y[.., units] = sum over `on` of x[.., on] weight[units, on] + bias[units].

    `units` is a size (of the single axis `on`, which it replaces) or the axes that replace those in `on` (`[part = 3,
    heads, c = c / heads]`; `[]` makes a scalar). Weight: [prod(units), prod(on)], as `torch.nn.Linear`, with the axes
    in the order written. A given weight has the axis `units` and the axes `on`.
    """

    name: ClassVar[str] = "linear"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight?")
    prefers: ClassVar[str | None] = "last"

    units: Units
    bias: bool = True
    on: Axes = ("c",)
    init: Start = None
    init_bias: Start = None

    def infer(self, facts: Facts, x: TensorType, weight: TensorType | None = None) -> TensorType:
        need_axes(x, self.on)
        made = self.made(x)
        if weight is not None:
            need_axes(weight, ("units", *contracted(self.on, x)), "weight")
            if not facts.equal(weight.size("units"), _count(made)):
                raise OpError("A204", f"the weight makes {weight.size('units')} units, not {_count(made)}", "weight")
        return x.swapped(contracted(self.on, x), made)

    def made(self, x: TensorType) -> tuple[Axis, ...]:
        """The axes that the units are."""
        if isinstance(self.units, tuple):
            return self.units
        on = contracted(self.on, x)
        if len(on) != 1:
            raise OpError(
                "A301",
                "`units` must name its axes where `on` has several",
                "units",
                help="write `linear([c = ...], on = [..])`",
            )
        return (Axis(on[0], self.units, x[on[0]].role),)

    def params(self, x: TensorType, weight: TensorType | None = None) -> dict[str, Param]:
        units, on = _count(self.made(x)), product(x.size(name) for name in contracted(self.on, x))
        bias = {"bias": Param((units,), ("units",))} if self.bias else {}
        return bias if weight is not None else {"weight": Param((units, on), ("units", "on")), **bias}

    def emit(self, code: Emission, x: Term, weight: Term | None = None) -> Term:
        x_type, on = code.inputs[0], contracted(self.on, code.inputs[0])
        made = self.made(x_type)
        flat, units = code.flat(x, on, "on"), code.size(_count(made))
        if weight is None:
            named = {} if self.bias else {"bias": "False"}
            width = code.size(product(x_type.size(name) for name in on))
            y = f"{code.module('nn.Linear', width, units, **named)}({flat.code})"
            code.initialise("weight", self.init)
        else:
            y = f"F.linear({flat.code}, {code.flat(code.last(weight, ('units',)), on, 'on').code})"
            y = f"{code.module('Bias', units)}({y})" if self.bias else y
        if self.bias:
            code.initialise("bias", self.init_bias)
        return code.split(Term(y, (*flat.order[:-1], "units")), "units", made)

    def reference(
        self, types: Types, x: Named, given: Named | None = None, weight: Any = None, bias: Any = None
    ) -> Named:
        on, made = contracted(self.on, types.inputs[0]), self.made(types.inputs[0])
        if given is not None:
            weight = given.to(("units", *on)).flatten(1)
        kept = [name for name in x.names if name not in on]
        flat = x.to((*kept, *on)).flatten(len(kept)) if on else x.to(kept).unsqueeze(-1)
        y = (flat.unsqueeze(-2) * weight).sum(-1) + (0 if bias is None else bias)
        return Named(y.reshape(*y.shape[:-1], *(axis.size for axis in made)), (*kept, *(axis.name for axis in made)))

    def macs(self, x: TensorType, weight: TensorType | None = None) -> Size:
        return x.numel * _count(self.made(x))

    def mixes(self, x: TensorType, weight: TensorType | None = None) -> frozenset[str]:
        return frozenset(contracted(self.on, x))


def _count(axes: Iterable[Axis]) -> Size:
    return product(axis.size for axis in axes)


@register
class Dot(Primitive):
    """The product of `a` and `b` summed over the axes `on`, which both have; all other axes broadcast by name."""

    name: ClassVar[str] = "dot"
    inputs: ClassVar[tuple[str, ...]] = ("a", "b")

    on: Axes

    def infer(self, facts: Facts, a: TensorType, b: TensorType) -> TensorType:
        on = axes_of(self.on, a)
        need_axes(a, self.on, "a")
        need_axes(b, on, "b")
        if a.dtype != b.dtype or a.dtype == "bool":
            advice = f"`cast(b, {a.dtype if a.dtype != 'bool' else 'float'})`"
            raise OpError("A214", f"`dot` multiplies numbers of one dtype, not {a.dtype} and {b.dtype}", "b", advice)
        for axis in b:
            if axis.name in a and not facts.equal(a.size(axis.name), axis.size):
                raise OpError("A204", f"axis `{axis.name}` has {a.size(axis.name)} in `a` and {axis.size} in `b`", "b")
        kept = [axis for axis in (*a, *(axis for axis in b if axis.name not in a)) if axis.name not in on]
        return TensorType(tuple(kept), a.dtype)

    def emit(self, code: Emission, a: Term, b: Term) -> Term:
        letters = {name: chr(ord("a") + i) for i, name in enumerate(dict.fromkeys((*a.order, *b.order)))}
        order = tuple(name for name in letters if name not in axes_of(self.on, code.inputs[0]))
        left, right, made = ("".join(letters[name] for name in names) for names in (a.order, b.order, order))
        return Term(f'torch.einsum("{left},{right}->{made}", {a.code}, {b.code})', order)

    def reference(self, types: Types, a: Named, b: Named) -> Named:
        return (a * b).sum(axes_of(self.on, types.inputs[0]))

    def macs(self, a: TensorType, b: TensorType) -> Size:
        return a.numel * product(axis.size for axis in b if axis.name not in a)

    def mixes(self, a: TensorType, b: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, a))
