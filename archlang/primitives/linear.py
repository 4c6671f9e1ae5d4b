"""Linear maps and contractions over named axes."""

from collections.abc import Iterable, Sequence
from string import ascii_letters
from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
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
from archlang.primitives.sliding import need_float
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, product


def contracted(on: Iterable[str], x: TensorType) -> tuple[str, ...]:
    """The axes that `on` means in the order in which it names them, which is that of the weight, the first slowest."""
    return tuple(dict.fromkeys(name for word in on for name in axes_of((word,), x)))


def need_offset(facts: Facts, offset: TensorType | None, axis: str, size: Size) -> None:
    """Refuse a given offset that is not one number for each unit."""
    if offset is None:
        return
    need_axes(offset, (axis,), "offset")
    if len(offset.axes) != 1 or not facts.equal(offset.size(axis), size):
        raise OpError("A204", f"the offset is [{axis} = {size}], and this is {offset}", "offset")


@register
class Linear(Primitive):
    """y[.., units] = sum over `on` of x[.., on] weight[units, on] + bias[units].

    `units` is a size (of the single axis `on`, which it replaces) or the axes that replace those in `on` (`[part = 3,
    heads, c = c / heads]`; `[]` makes a scalar). Weight: [prod(units), prod(on)], as `torch.nn.Linear`, with the axes
    in the order written. A given weight has the axis `units` and the axes `on`, or one axis `on` for all of these;
    a given offset, in the place of the bias, the axis `units`.
    """

    name: ClassVar[str] = "linear"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight?", "offset?")
    prefers: ClassVar[str | None] = "last"

    units: Units
    bias: bool = True
    on: Axes = ("c",)
    init: Start = None
    init_bias: Start = None

    def infer(
        self, facts: Facts, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None
    ) -> TensorType:
        need_float(x, self)
        need_axes(x, self.on)
        made = self.made(x)
        need_offset(facts, offset, "units", _count(made))
        if weight is not None:
            self._need_weight(facts, x, weight)
            if not facts.equal(weight.size("units"), _count(made)):
                raise OpError("A204", f"the weight makes {weight.size('units')} units, not {_count(made)}", "weight")
        return x.swapped(contracted(self.on, x), made)

    def _need_weight(self, facts: Facts, x: TensorType, weight: TensorType) -> None:
        on = contracted(self.on, x)
        if "on" not in weight:
            need_axes(weight, ("units", *on), "weight")
            return
        need_axes(weight, ("units",), "weight")
        if not facts.equal(weight.size("on"), product(x.size(name) for name in on)):
            raise OpError(
                "A204", f"the weight takes {weight.size('on')} numbers, and `on` is {', '.join(on)}", "weight"
            )

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

    def params(
        self, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None
    ) -> dict[str, Param]:
        units, on = _count(self.made(x)), product(x.size(name) for name in contracted(self.on, x))
        bias = {"bias": Param((units,), ("units",))} if self.bias and offset is None else {}
        return bias if weight is not None else {"weight": Param((units, on), ("units", "on")), **bias}

    def emit(self, code: Emission, x: Term, weight: Term | None = None, offset: Term | None = None) -> Term:
        on = contracted(self.on, code.inputs[0])
        made, bias = self.made(code.inputs[0]), self.bias and offset is None
        flat, units = code.flat(x, on, "on"), code.size(_count(made))
        if weight is not None and bias:
            code.module("LoneBias", units)
            offset = Term(code.weight("bias"), ("units",))
        y = self._own(code, flat, units, bias) if weight is None else self._given(code, flat, weight, offset, on)
        if weight is None and offset is not None:
            y = Term(f"{y.code} + {offset.code}", y.order, tight=False)
        if bias:
            code.initialise("bias", self.init_bias)
        return code.split(y, "units", made)

    def _own(self, code: Emission, x: Term, units: str, bias: bool) -> Term:
        """With weights of its own."""
        width = code.size(product(code.inputs[0].size(name) for name in contracted(self.on, code.inputs[0])))
        y = f"{code.module('nn.Linear', width, units, **({} if bias else {'bias': 'False'}))}({x.code})"
        code.initialise("weight", self.init)
        return Term(y, (*x.order[:-1], "units"))

    @staticmethod
    def _given(code: Emission, x: Term, weight: Term, offset: Term | None, on: Sequence[str]) -> Term:
        """With given weights."""
        on = ("on",) if "on" in weight.order else on
        matrix = code.flat(code.permute(weight, ("units", *on)), on, "on")
        given = [x.code, matrix.code, *([offset.code] if offset else [])]
        return Term(f"F.linear({', '.join(given)})", (*x.order[:-1], "units"))

    def reference(
        self,
        types: Types,
        x: Named,
        given: Named | None = None,
        offset: Named | None = None,
        weight: Any = None,
        bias: Any = None,
    ) -> Named:
        on, made = contracted(self.on, types.inputs[0]), self.made(types.inputs[0])
        if given is not None:
            weight = given.to(("units", *(("on",) if "on" in given.names else on))).flatten(1)
        bias = bias if offset is None else offset.to(("units",))
        kept = [name for name in x.names if name not in on]
        flat = x.to((*kept, *on)).flatten(len(kept)) if on else x.to(kept).unsqueeze(-1)
        y = (flat.unsqueeze(-2) * weight).sum(-1) + (0 if bias is None else bias)
        return Named(y.reshape(*y.shape[:-1], *(axis.size for axis in made)), (*kept, *(axis.name for axis in made)))

    def memory(self, x: TensorType, weight: TensorType | None = None, offset: TensorType | None = None) -> Memory:
        """A product reads both sides; what is not contiguous in the axes `on` is copied."""
        on = contracted(self.on, x)
        order = (*(name for name in x.names if name not in on), *(axis.name for axis in self.made(x)))
        wanted = "" if weight is None else "weight"
        if x.names[len(x.names) - len(on) :] == on:
            return Memory({"x": wanted, "weight": "x"}, order=order)
        return Memory({"weight": "x"}, kept=x.bytes, back=x.bytes, order=order)

    def macs(self, x: TensorType, *given: TensorType | None) -> Size:
        return x.numel * _count(self.made(x))

    def mixes(self, x: TensorType, *given: TensorType | None) -> frozenset[str]:
        return frozenset(contracted(self.on, x))


def _count(axes: Iterable[Axis]) -> Size:
    return product(axis.size for axis in axes)


def _matrices(a: Term, b: Term, on: tuple[str, ...]) -> Term | None:
    """The product of matrices, where `a` has the one axis `on` last and `b` has one axis of its own."""
    lead, own = b.order[:-2], tuple(name for name in b.order if name not in a.order)
    if len(own) != 1 or a.order[-1:] != on or (lead and a.order[:-2] != lead):
        return None
    order = (*a.order[:-1], *own)
    if b.order[-2:] == (*on, *own):
        return Term(f"{a.safe} @ {b.safe}", order, tight=False)
    return Term(f"{a.safe} @ {b.safe}.mT", order, tight=False) if lead else Term(f"F.linear({a.code}, {b.code})", order)


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
        if len({*a.names, *b.names}) > len(ascii_letters):
            raise OpError("A813", f"`dot` of tensors with more than {len(ascii_letters)} axes together", "b")
        kept = [axis for axis in (*a, *(axis for axis in b if axis.name not in a)) if axis.name not in on]
        return TensorType(tuple(kept), a.dtype)

    def emit(self, code: Emission, a: Term, b: Term) -> Term:
        on = axes_of(self.on, code.inputs[0])
        if (matrices := _matrices(a, b, on)) is not None:
            return matrices
        letters: dict[str, str] = {}
        for name in dict.fromkeys((*a.order, *b.order)):
            free = set(ascii_letters) - set(letters.values())
            letters[name] = next(x for x in f"{name.lower()}{ascii_letters}" if x in free)
        order = tuple(name for name in letters if name not in on)
        left, right, made = ("".join(letters[name] for name in names) for names in (a.order, b.order, order))
        return Term(f'torch.einsum("{left},{right}->{made}", {a.code}, {b.code})', order)

    def reference(self, types: Types, a: Named, b: Named) -> Named:
        return (a * b).sum(axes_of(self.on, types.inputs[0]))

    def macs(self, a: TensorType, b: TensorType) -> Size:
        return a.numel * product(axis.size for axis in b if axis.name not in a)

    def mixes(self, a: TensorType, b: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, a))
