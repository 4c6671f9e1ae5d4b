"""Reading and writing at positions that are data."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from archlang.facts import Condition, Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Axes,
    AxisName,
    Emission,
    Kind,
    OpError,
    Primitive,
    Term,
    Types,
    Whole,
    axes_of,
    need_axes,
    need_named,
    register,
)
from archlang.primitives.broadcast import dims, index, join, known, need_new, need_order, one_axis, refuse, spread
from archlang.shapes import Axis, TensorType, default_role


def need_positions(type_: TensorType) -> None:
    """Refuse an index that is not of whole numbers."""
    if type_.dtype not in ("int", "int64", "int32", "segments"):
        raise refuse(type_, "positions are of whole numbers", "`cast(index, int)`", "index")


@register
class Gather(Primitive):
    """x at positions of an axis: `x[n = index]`. Axes that both have are paired; the others of `index` come in the
    place of `axis`.

    An axis of `index` that has the name of `axis` is its own: `x[n = index]` with x: [b, n, c] and
    index: int[b, n = k] is [b, n = k, c].
    """

    name: ClassVar[str] = "gather"
    inputs: ClassVar[tuple[str, ...]] = ("x", "index")

    axis: AxisName

    def own(self, x: TensorType, index: TensorType) -> tuple[Axis, ...]:
        """The axes of the index that come in the place of `axis`."""
        return tuple(axis for axis in index if axis.name == self.axis or axis.name not in x)

    def infer(self, facts: Facts, x: TensorType, index: TensorType) -> TensorType:
        need_named(x, [self.axis])
        need_positions(index)
        join(facts, x.without(self.axis), index.without(self.axis))
        return x.swapped([self.axis], self.own(x, index))

    def emit(self, code: Emission, x: Term, index_: Term) -> Term:
        own = self.own(*code.inputs)
        paired = [name for name in index_.order if name in x.order and name != self.axis]
        if not paired:
            at = x.order.index(self.axis)
            return Term(index(x, {self.axis: index_.code}), (*x.order[:at], *index_.order, *x.order[at + 1 :]))
        flat = code.flat(index_, [axis.name for axis in own], self.axis)
        # torch.take_along_dim would fix the free sizes of an exported network
        text = f"{x.safe}.gather({dims(x, [self.axis])}, {spread(code, flat, x.order, code.inputs[0]).code})"
        return code.split(Term(text, x.order), self.axis, own)

    def memory(self, x: TensorType, index: TensorType) -> Memory:
        """The places; where they differ between rows, the values too."""
        paired = any(name in x for name in index.names if name != self.axis)
        return Memory({"x": "", "index": ""} if paired else {"index": ""} if index.names else {})

    def reference(self, types: Types, x: Named, index: Named) -> Named:
        own = [axis.name for axis in self.own(*types.inputs)]
        paired = [name for name in index.names if name not in own]
        rest = [name for name in x.names if name not in (*paired, self.axis)]
        values, places = x.to((*paired, self.axis, *rest)), index.to((*paired, *own))
        groups, count = values.shape[: len(paired)].numel(), values.shape[len(paired)]
        values = values.reshape(groups, count, *values.shape[len(paired) + 1 :])
        picked = _stack([rows[at] for rows, at in zip(values, places.reshape(groups, -1), strict=True)])
        return Named(picked.reshape((*places.shape, *values.shape[2:])), (*paired, *own, *rest))

    def mixes(self, x: TensorType, index: TensorType) -> frozenset[str]:
        return frozenset({self.axis})


Reduce = Annotated[Literal["sum", "mean", "max", "min"], Kind("word")]


@register
class Scatter(Primitive):
    """Values added up at positions of a new axis: y[.., j, ..] = sum of x[i] over the i with index[i] = j; 0 where
    there is none.

    `scatter(x, n = index, size = N)` is the reverse of `x[n = index]`: the axes of `index` that are not batch axes, or
    those in `on`, make way for `axis`, of this size; its others are paired with those of x. `reduce = mean`, `max` or
    `min` takes that of the values instead of their sum.
    """

    name: ClassVar[str] = "scatter"
    inputs: ClassVar[tuple[str, ...]] = ("x", "index")

    axis: AxisName
    size: Whole
    on: Axes | None = None
    reduce: Reduce = "sum"

    def spent(self, index: TensorType) -> tuple[str, ...]:
        """The axes that make way."""
        return _spent(self.on, self.axis, index)

    def infer(self, facts: Facts, x: TensorType, index: TensorType) -> TensorType:
        need_positions(index)
        need_named(x, index.names)
        join(facts, x, index)
        if self.reduce != "sum" and "float" not in x.dtype:
            raise refuse(x, f"`scatter` takes a `float` for `reduce = {self.reduce}`", "`cast(x, float)`")
        spent = self.spent(index)
        if self.axis not in spent:
            need_new(x, self.axis, "axis")
        return x.swapped(spent, [Axis(self.axis, self.size, default_role(self.axis))])

    def emit(self, code: Emission, x: Term, index: Term) -> Term:
        spent, x_type = self.spent(code.inputs[1]), code.inputs[0]
        x, index = (_merged(code, term, spent, self.axis) for term in (x, index))
        x, at = code.bind(x, "x"), x.order.index(self.axis)
        shape = ", ".join(code.size(self.size if name == self.axis else x_type.size(name)) for name in x.order)
        empty = f"{x.code}.new_zeros({shape})"
        if len(index.order) == 1 and self.reduce == "sum":
            return Term(f"{empty}.index_add({at}, {index.code}, {x.code})", x.order)
        _, places = code.align(x, index)
        if places.order != x.order or len(index.order) < len(x.order):
            places = Term(f"{places.safe}.expand_as({x.code})", x.order)
        if self.reduce == "sum":
            return Term(f"{empty}.scatter_add({at}, {places.code}, {x.code})", x.order)
        how = {"mean": "mean", "max": "amax", "min": "amin"}[self.reduce]
        return Term(f'{empty}.scatter_reduce({at}, {places.code}, {x.code}, "{how}", include_self=False)', x.order)

    def memory(self, x: TensorType, index: TensorType) -> Memory:
        """The places, and for an extreme or a mean what was put there."""
        if self.reduce == "sum":
            return Memory({"x": "", "index": ""} if len(index.names) == 1 else {"index": ""})
        made = self.infer(Facts(), x, index)
        return Memory({"x": "", "index": ""}, output=True, kept=made.bytes)

    def reference(self, types: Types, x: Named, index: Named) -> Named:
        spent = self.spent(types.inputs[1])
        paired = [name for name in index.names if name not in spent]
        rest = [name for name in x.names if name not in index.names]
        values, places = x.to((*paired, *rest, *spent)), index.to((*paired, *spent))
        places = places.reshape(*places.shape[: len(paired)], *(1 for _ in rest), *places.shape[len(paired) :])
        over = tuple(range(len(paired) + len(rest), values.ndim))
        size = known(types.outputs[0].size(self.axis))
        rows = [self.reduced(values, places == j, over) for j in range(size)]
        return Named(_stack(rows), (self.axis, *paired, *rest))

    def reduced(self, values: Any, here: Any, over: tuple[int, ...]) -> Any:
        """The values that are here, as one; 0 for none."""
        if self.reduce in ("max", "min"):
            outside = float("-inf") if self.reduce == "max" else float("inf")
            chosen = values.masked_fill(~here, outside)
            most = chosen.amax(over) if self.reduce == "max" else chosen.amin(over)
            return most.masked_fill(~here.any(over[0]) if len(over) == 1 else ~here.flatten(over[0]).any(-1), 0)
        total = (values * here).sum(over)
        return total / here.sum(over).clamp(min=1) if self.reduce == "mean" else total

    def mixes(self, x: TensorType, index: TensorType) -> frozenset[str]:
        return frozenset(self.spent(index))


@register
class Count(Primitive):
    """How often each position of a new axis occurs: y[j] = how many index[i] are j, as `scatter` of ones gives it. The
    degrees of a graph are `count(n = target, size = n)`.
    """

    name: ClassVar[str] = "count"
    saves: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[tuple[str, ...]] = ("index",)

    axis: AxisName
    size: Whole
    on: Axes | None = None

    def infer(self, facts: Facts, index: TensorType) -> TensorType:
        need_positions(index)
        spent = _spent(self.on, self.axis, index)
        made = index.swapped(spent, [Axis(self.axis, self.size, default_role(self.axis))])
        return replace(made, dtype="float")

    def emit(self, code: Emission, index: Term) -> Term:
        (type_,) = code.inputs
        index = code.bind(_merged(code, index, _spent(self.on, self.axis, type_), self.axis), "index")
        at, dtype = index.order.index(self.axis), code.working()
        shape = ", ".join(code.size(self.size if name == self.axis else type_.size(name)) for name in index.order)
        empty = f"torch.zeros({shape}, dtype={dtype}, device={index.safe}.device)"
        ones = f"torch.ones_like({index.code}, dtype={dtype})"
        return Term(f"{empty}.scatter_add({at}, {index.code}, {ones})", index.order)

    def reference(self, types: Types, index: Named) -> Named:
        import torch

        spent = _spent(self.on, self.axis, types.inputs[0])
        kept = [name for name in index.names if name not in spent]
        places, size = index.to((*kept, *spent)), known(types.outputs[0].size(self.axis))
        rows = [(places == j).flatten(len(kept)).sum(-1) for j in range(size)]
        return Named(_stack(rows).to(torch.get_default_dtype()), (self.axis, *kept))

    def mixes(self, index: TensorType) -> frozenset[str]:
        return frozenset(_spent(self.on, self.axis, index))


def _spent(on: Axes | None, axis: str, index: TensorType) -> tuple[str, ...]:
    """The axes of positions that make way for the axis that they are positions of."""
    if on is not None:
        need_axes(index, on, "on")
    names = tuple(a.name for a in index if a.role != "batch") if on is None else axes_of(on, index)
    if not names:
        raise OpError("A205", f"`index` has no axis that makes way for `{axis}`", "index", "name it with `on`")
    return names


def _merged(code: Emission, term: Term, spent: tuple[str, ...], axis: str) -> Term:
    """The axes that make way as one."""
    if len(spent) > 1:
        return code.flat(term, spent, axis)
    return replace(term, order=tuple(axis if name == spent[0] else name for name in term.order))


def _stack(rows: Iterable[Any]) -> Any:
    import torch

    return torch.stack(list(rows))


# ---- order
@register
class TopK(Primitive):
    """The positions of the k largest values along `on`, and the values, the largest first."""

    name: ClassVar[str] = "top_k"

    k: Whole
    on: Axes

    def infer(self, facts: Facts, x: TensorType) -> tuple[TensorType, TensorType]:
        need_order(x, self.name)
        axis = one_axis(self.on, x)
        if not facts.require(Condition("<=", self.k, x.size(axis)), f"`top_k` along `{axis}`"):
            raise OpError("A204", f"there are no {self.k} positions in the axis `{axis}` of size {x.size(axis)}", "k")
        made = x.resized(**{axis: self.k})
        return made.cast("int"), made

    def emit(self, code: Emission, x: Term) -> tuple[Term, Term]:
        place = dims(x, [one_axis(self.on, code.inputs[0])])
        # torch gives the value first
        position, value = code.unpack(f"{x.safe}.topk({code.size(self.k)}, {place})[::-1]", x.order, x.order)
        return position, value

    def memory(self, x: TensorType) -> Memory:
        """The places."""
        return Memory(kept=self.infer(Facts(), x)[1].bytes)

    def reference(self, types: Types, x: Named) -> tuple[Named, Named]:
        axis, k = one_axis(self.on, types.inputs[0]), known(types.outputs[0].size(one_axis(self.on, types.inputs[0])))
        order = x.map(lambda values: values.argsort(x.at(axis), descending=True)).select(axis, slice(k))
        return order, x.map(lambda values: values.gather(x.at(axis), order.tensor))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, x))


@register
class Sort(Primitive):
    """The values along `on` in ascending order, or descending."""

    name: ClassVar[str] = "sort"

    on: Axes
    descending: bool = False

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_order(x, self.name)
        one_axis(self.on, x)
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(f"{self.call(code, x)}.values", x.order)

    def call(self, code: Emission, x: Term) -> str:
        place = dims(x, [one_axis(self.on, code.inputs[0])])
        return (
            f"{x.safe}.sort(dim={place}, descending=True, stable=True)"
            if self.descending
            else f"{x.safe}.sort(dim={place}, stable=True)"
        )

    def memory(self, x: TensorType) -> Memory:
        """The places."""
        return Memory(kept=x.cast("int").bytes)

    def reference(self, types: Types, x: Named) -> Named:
        axis = one_axis(self.on, types.inputs[0])
        return x.map(lambda values: values.gather(x.at(axis), self.order(x, axis)))

    def order(self, x: Named, axis: str) -> Any:
        """The positions in order: a value's rank is how many are smaller (descending: larger), or equal and before."""
        import torch

        rows = x.tensor.movedim(x.at(axis), -1)
        earlier = torch.ones(rows.shape[-1], rows.shape[-1], dtype=torch.bool).tril(-1)
        here, other = rows.unsqueeze(-1), rows.unsqueeze(-2)
        before = (other > here if self.descending else other < here) | ((other == here) & earlier)
        rank = before.sum(-1)
        return (
            torch.zeros_like(rank)
            .scatter(-1, rank, torch.arange(rows.shape[-1]).expand_as(rank))
            .movedim(-1, x.at(axis))
        )

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(axes_of(self.on, x))


@register
class Argsort(Sort):
    """The positions that put the values along `on` in ascending order, or descending; equal values keep theirs."""

    name: ClassVar[str] = "argsort"

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        return super().infer(facts, x).cast("int")

    def emit(self, code: Emission, x: Term) -> Term:
        return Term(f"{self.call(code, x)}.indices", x.order)

    def memory(self, x: TensorType) -> Memory:
        return Memory(output=True, work=x.bytes)

    def reference(self, types: Types, x: Named) -> Named:
        return Named(self.order(x, one_axis(self.on, types.inputs[0])), x.names)
