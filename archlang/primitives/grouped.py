"""Layers of experts on rows that are sorted by expert: what passes make for a GPU of what `mixture` says."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import InstanceOf

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Primitive, Term, Types
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, product


class SortedChoices(Primitive):
    """The choices in index sorted by the expert that is chosen: where those of each expert end, and the place of each
    among all. Those of nobody come last.
    """

    name: ClassVar[str] = "sorted_choices"
    inputs: ClassVar[tuple[str, ...]] = ("index",)

    experts: int
    on: str

    def infer(self, facts: Facts, index: TensorType) -> tuple[TensorType, ...]:
        every = product(axis.size for axis in index)
        return (
            TensorType((Axis("expert", self.experts, "free"),), "int"),
            TensorType((Axis("choice", every, "free"),), "int"),
        )

    def emit(self, code: Emission, index: Term) -> tuple[Term, ...]:
        text = f"{code.helper('sorted_choices')}({code.last(index, [self.on]).code}, {code.const(self.experts)})"
        return code.unpack(text, ("expert",), ("choice",))

    def memory(self, index: TensorType) -> Memory:
        """The choices, and what sorts them."""
        return Memory(kept=index.cast("int").bytes, work=index.cast("int").bytes * 4)

    def reference(self, types: Types, index: Named) -> tuple[Named, ...]:
        import torch

        chosen = index.to((*(name for name in index.names if name != self.on), self.on)).flatten()
        places = [torch.nonzero(chosen == e)[:, 0] for e in range(self.experts + 1)]
        ends = torch.tensor([len(place) for place in places[:-1]]).cumsum(0)
        return Named(ends, ("expert",)), Named(torch.cat(places), ("choice",))

    def mixes(self, index: TensorType) -> frozenset[str]:
        return frozenset(index.names)

    def looks_ahead(self, index: TensorType) -> frozenset[str]:
        """A row is that of one token, wherever it stands."""
        return frozenset()


class ChosenRows(Primitive):
    """The rows of x at the tokens of choices: a row for each choice in `order`."""

    name: ClassVar[str] = "chosen_rows"
    inputs: ClassVar[tuple[str, ...]] = ("x", "order")

    tokens: tuple[str, ...]

    def infer(self, facts: Facts, x: TensorType, order: TensorType) -> TensorType:
        return rows_type(self.tokens, x, order)

    def emit(self, code: Emission, x: Term, order: Term) -> Term:
        x = rows_term(code, self.tokens, x)
        return Term(f"{code.helper('chosen_rows')}({x.code}, {order.code})", x.order)

    def reference(self, types: Types, x: Named, order: Named) -> Named:
        return chosen(self.tokens, x, order)

    def mixes(self, x: TensorType, order: TensorType) -> frozenset[str]:
        return frozenset(self.tokens)

    def looks_ahead(self, x: TensorType, order: TensorType) -> frozenset[str]:
        """A row is that of one token, wherever it stands."""
        return frozenset()


def rows_type(tokens: Sequence[str], x: TensorType, order: TensorType) -> TensorType:
    """The type of a row of x for each choice."""
    return TensorType((Axis("b", order.size("choice"), "batch"), *x.without(*tokens)), x.dtype)


def rows_term(code: Emission, tokens: Sequence[str], x: Term) -> Term:
    """x with its tokens as one axis `b` before all others, channels last."""
    rest = [name for name in x.order if name not in (*tokens, "c")]
    x = code.permute(x, (*tokens, *rest, *(["c"] if "c" in x.order else [])))
    text = x.code if len(tokens) == 1 else f"{x.safe}.flatten(0, {len(tokens) - 1})"
    return Term(text, ("b", *x.order[len(tokens) :]), x.tight)


def chosen(tokens: Sequence[str], x: Named, order: Named) -> Named:
    """The meaning of a row of x for each choice."""
    rest = tuple(name for name in x.names if name not in tokens)
    rows = x.to((*tokens, *rest)).flatten(0, len(tokens) - 1)
    return Named(rows[order.tensor // (order.tensor.numel() // rows.shape[0])], ("b", *rest))


class GroupedLinear(Primitive):
    """y[row, .., units] = sum over c of x[row, .., c] weight_e[units, c] + bias_e[units], e the layer of a row; 0 for
    rows of none. The biases, if there are any, are behind the weights. With `order`, the rows are those of x at the
    tokens of choices.
    """

    name: ClassVar[str] = "grouped_linear"
    inputs: ClassVar[tuple[str, ...]] = ("x", "ends", "order?", "*weights")
    listed: ClassVar[bool] = True
    prefers: ClassVar[str | None] = "last"

    made: tuple[InstanceOf[Axis], ...]
    bias: bool
    tokens: tuple[str, ...] = ()

    def rows(self, x: TensorType, order: TensorType | None) -> TensorType:
        """The type of the rows."""
        return x if order is None else rows_type(self.tokens, x, order)

    def infer(
        self, facts: Facts, x: TensorType, ends: TensorType, order: TensorType | None, weights: Sequence[TensorType]
    ) -> TensorType:
        return self.rows(x, order).swapped(("c",), self.made)

    def given(self, code: Emission, x: Term, ends: Term, order: Term | None) -> tuple[Term, list[str], list[str]]:
        """The rows as they lie, and how a call begins and ends."""
        x = rows_term(code, self.tokens or ("b",), x)
        return x, [x.code, ends.code], [f"order={order.code}"] if order else []

    def parts(self, weights: Sequence[Any]) -> list[Sequence[Any]]:
        """The weights of one layer, and its biases."""
        count = len(weights) // 2 if self.bias else len(weights)
        return [part for part in (weights[:count], weights[count:]) if part]

    def emit(self, code: Emission, x: Term, ends: Term, order: Term | None, weights: Sequence[Term]) -> Term:
        rows, first, last = self.given(code, x, ends, order)
        lists = [code.sequence(part) for part in self.parts(weights)]
        text = f"{code.helper('grouped_linear')}({', '.join([*first, *lists, *last])})"
        return code.split(Term(text, (*rows.order[:-1], "units")), "units", self.made)

    def reference(self, types: Types, x: Named, ends: Named, order: Named | None, weights: Sequence[Named]) -> Named:
        import torch

        x = x if order is None else chosen(self.tokens, x, order)
        names = ("b", *(name for name in x.names if name not in ("b", "c")), "c")
        rows, count = x.to(names), len(weights) // 2 if self.bias else len(weights)
        made, start = [], 0
        for e, end in enumerate(ends.tensor.tolist()):
            y = (rows[start:end].unsqueeze(-2) * weights[e].to(("units", "on"))).sum(-1)
            made.append(y + weights[count + e].tensor if self.bias else y)
            start = end
        made.append(made[0].new_zeros(rows.shape[0] - start, *made[0].shape[1:]))
        y = torch.cat(made)
        return Named(
            y.reshape(*y.shape[:-1], *(axis.size for axis in self.made)),
            (*names[:-1], *(axis.name for axis in self.made)),
        )

    def memory(
        self, x: TensorType, ends: TensorType, order: TensorType | None, weights: Sequence[TensorType]
    ) -> Memory:
        rows = self.rows(x, order)
        return Memory({"x": "", "ends": ""}, order=(*rows.without("c").names, *(axis.name for axis in self.made)))

    def macs(self, x: TensorType, ends: TensorType, order: TensorType | None, weights: Sequence[TensorType]) -> Size:
        return self.rows(x, order).numel * product(axis.size for axis in self.made)

    def mixes(self, x: TensorType, *others: Any) -> frozenset[str]:
        return frozenset({"c", *self.tokens})

    def looks_ahead(self, x: TensorType, *others: Any) -> frozenset[str]:
        """A row is that of one token, wherever it stands."""
        return frozenset({"c"})
