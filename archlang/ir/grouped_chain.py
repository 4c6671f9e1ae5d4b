"""Layers of experts and the operations on single elements that follow them, as one: a kernel takes both in one pass."""

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import InstanceOf

from archlang.facts import Facts
from archlang.ir.chain import Chain, fractions, joined
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Term, Types
from archlang.primitives.grouped import GroupedLinear
from archlang.shapes import TensorType
from archlang.sizes import Size


class GroupedChain(Chain):
    """The graph of a chain on what several layers alike make of the rows of experts; the weights of a layer, and its
    biases, are behind those of the layer before.
    """

    name: ClassVar[str] = "grouped_chain"
    inputs: ClassVar[tuple[str, ...]] = ("x", "ends", "order?", "*weights")
    does: ClassVar[str] = "the layers of all experts with what follows them, hidden values written once"
    prefers: ClassVar[str | None] = "last"

    layer: InstanceOf[GroupedLinear]
    layers: tuple[str, ...]  # their names

    @property
    def ports(self) -> list[str]:
        return list(self.layers)

    @property
    def skeleton(self) -> tuple[Any, ...]:
        return self.name, super().skeleton

    @property
    def title(self) -> str:
        """Its operations: `grouped_silu_mul`."""
        return f"grouped_{joined(self.made_of)}"

    def _layers(self, weights: Sequence[Any]) -> list[Sequence[Any]]:
        """The weights and biases of each layer."""
        count = len(weights) // len(self.layers)
        return [weights[i : i + count] for i in range(0, len(weights), count)]

    def infer(self, facts: Facts, *inputs: Any) -> tuple[TensorType, ...]:
        return super().infer(facts, ())

    def emit(self, code: Emission, *inputs: Any) -> Term:
        x, ends, order, weights = inputs
        rows, first, last = self.layer.given(code, x, ends, order)
        parts = zip(*(self.layer.parts(own) for own in self._layers(weights)), strict=True)
        lists = [f"[{', '.join(code.sequence(own) for own in part)}]" for part in parts]
        numbers = [code.const(value) for _, _, value in fractions(self.graph)]
        text = f"{code.helper('grouped_chain')}({', '.join([*first, *numbers, *lists, *last])})"
        return code.split(Term(text, (*rows.order[:-1], "units")), "units", self.layer.made)

    def reference(self, types: Types, *inputs: Any) -> Named | tuple[Named, ...]:
        x, ends, order, weights = inputs
        made = tuple(self.layer.reference(types, x, ends, order, own) for own in self._layers(weights))
        return super().reference(types, made)

    def memory(self, *inputs: Any) -> Memory:
        """What each layer made is kept."""
        x, ends, order, weights = inputs
        held, (y, *_) = self.layer.memory(x, ends, order, weights), super().infer(Facts(), ())
        kept = y.bytes * len(self.layers)
        return Memory(held.keeps, False, kept, 0, kept, order=held.order)

    def macs(self, *inputs: Any) -> Size:
        x, ends, order, weights = inputs
        return self.layer.macs(x, ends, order, weights) * len(self.layers)

    def mixes(self, *inputs: Any) -> frozenset[str]:
        return self.layer.mixes(*inputs)

    def looks_ahead(self, *inputs: Any) -> frozenset[str]:
        return self.layer.looks_ahead(*inputs)
