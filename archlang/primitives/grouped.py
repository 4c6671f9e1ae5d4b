"""Layers of experts on rows that are sorted by expert: what passes make for a GPU of what `mixture` says."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import InstanceOf

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Primitive, Term, Types
from archlang.primitives.mixture import Dispatch
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, product


class SortedRows(Dispatch):
    """`dispatch` with all rows in one tensor: these, where the rows of each layer end, and their places."""

    name: ClassVar[str] = "sorted_rows"

    def infer(self, facts: Facts, x: TensorType, index: TensorType) -> tuple[TensorType, ...]:
        *parts, order = super().infer(facts, x, index)
        rows = parts[0].resized(b=product(axis.size for axis in index))
        return rows, TensorType((Axis("expert", self.experts, "free"),), "int"), order

    def emit(self, code: Emission, x: Term, index: Term) -> tuple[Term, ...]:
        tokens = [name for name in index.order if name != self.on]
        x = code.permute(x, (*tokens, *(name for name in x.order if name not in tokens)))
        given = [x.code, code.last(index, [self.on]).code, code.const(self.experts)]
        text = f"{code.helper('sorted_rows')}({', '.join(given)})"
        return code.unpack(text, ("b", *x.order[len(tokens) :]), ("expert",), ("choice",))

    def reference(self, types: Types, x: Named, index: Named) -> tuple[Named, ...]:
        import torch

        *parts, order = super().reference(types, x, index)
        names = parts[0].names
        rows = torch.cat([part.to(names) for part in parts])
        dropped = rows.new_zeros(index.tensor.numel() - rows.shape[0], *rows.shape[1:])
        places = set(order.tensor.tolist())
        others = [place for place in range(index.tensor.numel()) if place not in places]
        ends = torch.tensor([part.size("b") for part in parts]).cumsum(0)
        every = torch.cat([order.tensor, torch.tensor(others, dtype=torch.int64)])
        return Named(torch.cat([rows, dropped]), names), Named(ends, ("expert",)), Named(every, ("choice",))


class GroupedLinear(Primitive):
    """y[row, .., units] = sum over c of x[row, .., c] weight_e[units, c] + bias_e[units], e the layer of a row; 0 for
    rows of none. The biases, if there are any, are behind the weights.
    """

    name: ClassVar[str] = "grouped_linear"
    inputs: ClassVar[tuple[str, ...]] = ("x", "ends", "*weights")
    listed: ClassVar[bool] = True
    prefers: ClassVar[str | None] = "last"

    made: tuple[InstanceOf[Axis], ...]
    bias: bool

    def infer(self, facts: Facts, x: TensorType, ends: TensorType, weights: Sequence[TensorType]) -> TensorType:
        return x.swapped(("c",), self.made)

    def emit(self, code: Emission, x: Term, ends: Term, weights: Sequence[Term]) -> Term:
        x = code.permute(x, ("b", *(name for name in x.order if name not in ("b", "c")), "c"))
        texts = [weight.code for weight in weights]
        count = len(texts) // 2 if self.bias else len(texts)
        lists = [code.sequence(part) for part in (weights[:count], weights[count:]) if part]
        text = f"{code.helper('grouped_linear')}({', '.join([x.code, ends.code, *lists])})"
        return code.split(Term(text, (*x.order[:-1], "units")), "units", self.made)

    def reference(self, types: Types, x: Named, ends: Named, weights: Sequence[Named]) -> Named:
        import torch

        order = ("b", *(name for name in x.names if name not in ("b", "c")), "c")
        rows, count = x.to(order), len(weights) // 2 if self.bias else len(weights)
        made, start = [], 0
        for e, end in enumerate(ends.tensor.tolist()):
            y = (rows[start:end].unsqueeze(-2) * weights[e].to(("units", "on"))).sum(-1)
            made.append(y + weights[count + e].tensor if self.bias else y)
            start = end
        made.append(made[0].new_zeros(rows.shape[0] - start, *made[0].shape[1:]))
        y = torch.cat(made)
        return Named(
            y.reshape(*y.shape[:-1], *(axis.size for axis in self.made)),
            (*order[:-1], *(axis.name for axis in self.made)),
        )

    def memory(self, x: TensorType, ends: TensorType, weights: Sequence[TensorType]) -> Memory:
        return Memory({"x": "", "ends": ""}, order=(*x.without("c").names, *(axis.name for axis in self.made)))

    def macs(self, x: TensorType, ends: TensorType, weights: Sequence[TensorType]) -> Size:
        return x.numel * product(axis.size for axis in self.made)

    def mixes(self, x: TensorType, *others: Any) -> frozenset[str]:
        return frozenset({"c"})
