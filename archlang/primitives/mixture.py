"""Experts: tokens go to those layers of a bank that data chooses for them, and only to those."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

from pydantic import InstanceOf

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import AxisName, Emission, OpError, Primitive, Term, Types, need_named, register
from archlang.primitives.broadcast import join, refuse
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, product, symbol, symbols


@register
class Mixture(Primitive):
    """y[token] = sum over i along `on` of weight[token, i] * f(x[token]) with f = layers[index[token, i]]
    (Shazeer et al., ICLR 2017).

    index is int[.., on], weight [.., on]: its other axes are the tokens, as a rule b and the axes of space or time. A
    layer is given its tokens as one batch, [b, ..] with the axes of x that are no axes of index, and each of its tokens
    once. Rows are sorted by layer: the work grows with the size of `on`, not with the number of layers. An index equal
    to the number of layers means that the choice is dropped. `mixture(.., layers = [f for e in range(8)]) as
    experts` has the weights `experts.0`, `experts.1`, ...
    """

    name: ClassVar[str] = "mixture"
    inputs: ClassVar[tuple[str, ...]] = ("x", "index", "weight")
    lowered: ClassVar[bool] = True

    layers: Any  # a list
    on: AxisName


class Dispatch(Primitive):
    """The tokens of x for each of `experts` layers, and the places of these among all choices: what `mixture` begins
    with.
    """

    name: ClassVar[str] = "dispatch"
    inputs: ClassVar[tuple[str, ...]] = ("x", "index")

    experts: int
    on: str

    def tokens(self, index: TensorType) -> tuple[str, ...]:
        """The axes that make up the tokens."""
        return tuple(axis.name for axis in index if axis.name != self.on)

    def infer(self, facts: Facts, x: TensorType, index: TensorType) -> tuple[TensorType, ...]:
        self._check(facts, x, index)
        tokens = self.tokens(index)
        size = symbol(_unused(x))
        rows = replace(x, axes=(Axis("b", size, "batch"), *(axis for axis in x if axis.name not in tokens)))
        order = TensorType((Axis("choice", product(axis.size for axis in index), "free"),), "int")
        return (*(rows for _ in range(self.experts)), order)

    def _check(self, facts: Facts, x: TensorType, index: TensorType) -> None:
        if index.dtype != "int":
            raise refuse(index, "the choice of a layer is a whole number", "`top_k` gives one", "index")
        need_named(index, [self.on], "index")
        need_named(x, self.tokens(index), "x")
        if self.on in x:
            raise OpError("A206", f"x has the axis `{self.on}`, along which its layers are chosen", "x")
        if lacking := [name for name in x.of_role("batch") if name not in index]:
            raise OpError("A205", f"`index` has no axis `{lacking[0]}`: {index}", "index")
        if not self.tokens(index):
            raise OpError("A205", f"`index` has no axis but `{self.on}`: it chooses for no token", "index")
        join(facts, x, index.without(self.on))

    def shares(self, x: TensorType, index: TensorType) -> Fraction:
        """The part of the layers that a token meets."""
        chosen = index.size(self.on)
        return Fraction(chosen, self.experts) if isinstance(chosen, int) else Fraction(1)

    def means(self, x: TensorType, index: TensorType) -> Mapping[str, Size]:
        every = product(axis.size for axis in index)
        return {_unused(x): every * Fraction(1, self.experts)}

    def emit(self, code: Emission, x: Term, index: Term) -> tuple[Term, ...]:
        tokens = [name for name in index.order if name != self.on]
        x = code.permute(x, (*tokens, *(name for name in x.order if name not in tokens)))
        rest = x.order[len(tokens) :]
        text = f"{code.helper('dispatch')}({x.code}, {code.last(index, [self.on]).code}, {code.const(self.experts)})"
        return code.unpack_list(text, [("b", *rest)] * self.experts, ("choice",))

    def memory(self, x: TensorType, index: TensorType) -> Memory:
        """Which token each choice takes."""
        return Memory(kept=index.cast("int").bytes, work=index.cast("int").bytes * 4)

    def reference(self, types: Types, x: Named, index: Named) -> tuple[Named, ...]:
        import torch

        tokens = self.tokens(types.inputs[1])
        rest = tuple(name for name in x.names if name not in tokens)
        rows, chosen = x.to((*tokens, *rest)), index.to((*tokens, self.on))
        rows, chosen = rows.flatten(0, len(tokens) - 1), chosen.flatten(0, len(tokens) - 1)
        places = [torch.nonzero(chosen == e) for e in range(self.experts)]  # (token, choice)
        parts = [Named(rows[place[:, 0]], ("b", *rest)) for place in places]
        order = torch.cat([place[:, 0] * chosen.shape[1] + place[:, 1] for place in places])
        return (*parts, Named(order, ("choice",)))

    def mixes(self, x: TensorType, index: TensorType) -> frozenset[str]:
        return frozenset(self.tokens(index))

    def looks_ahead(self, x: TensorType, index: TensorType) -> frozenset[str]:
        """A row is that of one token, wherever it stands."""
        return frozenset()

    def resumes(self, x: TensorType, index: TensorType) -> bool:
        """Each token goes its way alone."""
        return True


class Combine(Primitive):
    """The weighted sum of what the layers made of each token: what `mixture` ends with."""

    name: ClassVar[str] = "combine"
    inputs: ClassVar[tuple[str, ...]] = ("weight", "order", "*parts")
    listed: ClassVar[bool] = True

    on: str

    def infer(self, facts: Facts, weight: TensorType, order: TensorType, parts: Sequence[TensorType]) -> TensorType:
        need_named(weight, [self.on], "weight")
        rest = tuple(axis for axis in parts[0] if axis.name != "b")
        return replace(parts[0], axes=(*weight.without(self.on), *rest))

    def emit(self, code: Emission, weight: Term, order: Term, parts: Sequence[Term]) -> Term:
        rows = [code.permute(part, parts[0].order) for part in parts]
        rows = [code.permute(part, ("b", *(name for name in part.order if name != "b"))) for part in rows]
        weight = code.last(weight, [self.on])
        text = f"{code.helper('combine')}({code.sequence(rows)}, {order.code}, {weight.code})"
        return Term(text, (*weight.order[:-1], *rows[0].order[1:]))

    def memory(self, weight: TensorType, order: TensorType, parts: Sequence[TensorType]) -> Memory:
        """What every choice made, back in the places of the choices."""
        rows = weight.numel * parts[0].without("b").bytes
        return Memory({"weight": "", "order": ""}, False, rows, rows * 3, rows * 2)

    def reference(self, types: Types, weight: Named, order: Named, parts: Sequence[Named]) -> Named:
        tokens = tuple(name for name in weight.names if name != self.on)
        rest = tuple(name for name in parts[0].names if name != "b")
        shares = weight.to((*tokens, self.on))
        rows = [row for part in parts for row in part.to(("b", *rest))]
        result = [parts[0].to(("b", *rest)).new_zeros([parts[0].size(name) for name in rest])] * shares[..., 0].numel()
        for row, place in zip(rows, order.tensor.tolist(), strict=True):
            token, choice = divmod(place, shares.shape[-1])
            result[token] = result[token] + row * shares.flatten(0, -2)[token, choice]
        import torch

        made = torch.stack(result)
        return Named(made.reshape(*shares.shape[:-1], *made.shape[1:]), (*tokens, *rest))


def _unused(x: TensorType) -> str:
    """A name for the number of tokens that a layer gets."""
    taken = {name for axis in x for name in symbols(axis.size)}
    name, number = "tokens", 2
    while name in taken:
        name, number = f"tokens_{number}", number + 1
    return name


# ---- weights of its own for each position
@register
class Each(Primitive):
    """y[i] = layer_i(x[i]): every position i of an axis has a layer with weights of its own.

    `each(heads, linear(8)) as maps` makes the layers `maps.0`, `maps.1`, ...
    """

    name: ClassVar[str] = "each"
    lowered: ClassVar[bool] = True

    axis: AxisName
    layer: Any


class Unbind(Primitive):
    """All positions of an axis, one by one: what `each` begins with."""

    name: ClassVar[str] = "unbind"
    saves: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[bool] = True

    axis: str

    def infer(self, facts: Facts, x: TensorType) -> tuple[TensorType, ...]:
        need_named(x, [self.axis])
        count = x.size(self.axis)
        if not isinstance(count, int):
            raise OpError("A220", f"every position of `{self.axis}` has weights, and its size {count} is free", "x")
        return (x.without(self.axis),) * count

    def emit(self, code: Emission, x: Term) -> tuple[Term, ...]:
        order = tuple(name for name in x.order if name != self.axis)
        return code.unpack_list(f"{x.safe}.unbind({x.at(self.axis)})", [order] * len(code.outputs))

    def reference(self, types: Types, x: Named) -> tuple[Named, ...]:
        return tuple(x.select(self.axis, i) for i in range(x.size(self.axis)))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset({self.axis})


class Bound(Primitive):
    """The results for all positions of an axis, in order: what `each` ends with."""

    name: ClassVar[str] = "bound"
    saves: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("*parts",)
    listed: ClassVar[bool] = True

    axis: InstanceOf[Axis]

    def infer(self, facts: Facts, parts: Sequence[TensorType]) -> TensorType:
        if self.axis.name in parts[0]:
            raise OpError("A206", f"the layer makes the axis `{self.axis.name}`, of whose positions it has one")
        return replace(parts[0], axes=(*parts[0].axes, self.axis))

    def emit(self, code: Emission, parts: Sequence[Term]) -> Term:
        order = parts[0].order
        rows = [code.permute(part, order) for part in parts]
        at = len(order) - ("c" in order[-1:])
        return Term(f"torch.stack({code.sequence(rows)}, {at})", (*order[:at], self.axis.name, *order[at:]))

    def reference(self, types: Types, parts: Sequence[Named]) -> Named:
        import torch

        names = parts[0].names
        return Named(torch.stack([part.to(names) for part in parts]), (self.axis.name, *names))
