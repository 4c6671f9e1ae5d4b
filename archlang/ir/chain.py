"""Operations on single elements, and norms over one axis, as one: what kernels take in one pass over memory."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from archlang.facts import Facts
from archlang.ir.operations import Input
from archlang.named import Named
from archlang.primitive import Emission, Primitive, Term, Types
from archlang.primitives.broadcast import placed
from archlang.shapes import TensorType

Lies = Literal["tile", "row", "column"]  # has the axis and others, not the axis, the axis alone


class Chain(Primitive):
    """The graph of its body at every element; inputs are broadcast by name. `axis` lies last in memory: that of norms,
    of weights, or of what is not the same along others; where there is none, all inputs have all axes.
    """

    name: ClassVar[str] = "chain"
    inputs: ClassVar[tuple[str, ...]] = ("*xs",)

    graph: Any  # Graph
    made_of: tuple[str, ...] = ()  # the operations of the source
    axis: str = ""

    def infer(self, facts: Facts, xs: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return tuple(value.type for _, value in self.graph.outputs)

    def lies(self, x: TensorType) -> Lies:
        """How an input lies in the tiles of a kernel."""
        if self.axis and x.names == (self.axis,):
            return "column"
        return "tile" if not self.axis or self.axis in x else "row"

    def is_full(self, x: TensorType) -> bool:
        """Whether an input has all axes."""
        return len(x.axes) == len(self.graph.outputs[0][1].type.axes)

    @property
    def numbers(self) -> Iterator[tuple[int, str, float]]:
        """The fractions that operations of the body hold, by node and field: they may differ where the text is one."""
        for node in self.graph:
            for field, value in node.op if not isinstance(node.op, Input) else ():
                if isinstance(value, float) and node.op.name != "pow":
                    yield node.id, field, value

    @property
    def skeleton(self) -> tuple[Any, ...]:
        """Chains with equal skeletons are one kernel: sizes and fractions may differ."""
        held = {(id, field) for id, field, _ in self.numbers}
        steps = []
        for node in self.graph:
            if not isinstance(node.op, Input):
                fields = tuple((f, str(v)) for f, v in node.op if (node.id, f) not in held)
                reads = tuple((port, value.node) for port, value in self.graph.operands(node))
                steps.append((node.op.name, fields, reads))
        given = tuple((self.lies(x.type), self.is_full(x.type)) for x in self.graph.inputs.values())
        return given, tuple(steps), tuple(value.node for _, value in self.graph.outputs)

    @property
    def title(self) -> str:
        """Its operations, short enough for a name: `add_rms_norm`."""
        return "_".join(self.made_of if len(self.made_of) <= 4 else (*self.made_of[:2], *self.made_of[-2:]))

    def emit(self, code: Emission, xs: tuple[Term, ...]) -> Term | tuple[Term, ...]:
        types: tuple[TensorType, ...] = code.inputs[0]
        first = next(x for x, type_ in zip(xs, types, strict=True) if self.is_full(type_))
        order = code.last(first, (self.axis,) if self.axis else ()).order
        given = [
            x if self.lies(type_) == "column" else placed(code, x, order) for x, type_ in zip(xs, types, strict=True)
        ]
        numbers = [code.const(value) for _, _, value in self.numbers]
        text = f"{code.helper('chain')}({', '.join([*(x.code for x in given), *numbers])})"
        if len(self.graph.outputs) == 1:
            return Term(text, order)
        return code.unpack(text, *(order for _ in self.graph.outputs))

    def reference(self, types: Types, xs: tuple[Named, ...]) -> Named | tuple[Named, ...]:
        found: dict[int, Named] = dict(zip((x.node for x in self.graph.inputs.values()), xs, strict=True))
        for node in self.graph:
            if not isinstance(node.op, Input):
                given = self.graph.arguments(node.op, [(p, found[v.node]) for p, v in self.graph.operands(node)])
                found[node.id] = node.op.reference(Types(tuple(self.graph.input_types(node)), node.types), *given)
        results = tuple(found[value.node] for _, value in self.graph.outputs)
        return results[0] if len(results) == 1 else results

    def mixes(self, xs: tuple[TensorType, ...]) -> frozenset[str]:
        return frozenset().union(*(node.op.mixes(*self.graph.input_types(node)) for node in self.graph))

    def __str__(self) -> str:
        return f"chain of {', '.join(self.made_of)} {self.graph.digest[:8]}"
