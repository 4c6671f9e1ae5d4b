"""Operations on single elements, and norms over one axis, as one: what kernels take in one pass over memory."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from archlang.facts import Facts
from archlang.ir.operations import Input
from archlang.named import Named
from archlang.primitive import Emission, Primitive, Term, Types
from archlang.primitives.broadcast import placed
from archlang.shapes import TensorType

Lies = Literal["tile", "row", "column"]  # has the axis and others, not the axis, the axis alone


def fractions(graph: Any) -> Iterator[tuple[int, str, float]]:
    """The fractions that operations hold, by node and field: they may differ where the text of a kernel is one."""
    for node in graph:
        for field, value in node.op if not isinstance(node.op, Input) else ():
            if isinstance(value, float) and node.op.name != "pow":
                yield node.id, field, value


def bones(graph: Any) -> tuple[Any, ...]:
    """What a graph is but for sizes and fractions."""
    held = {(id, field) for id, field, _ in fractions(graph)}
    steps = []
    for node in graph:
        if not isinstance(node.op, Input):
            fields = tuple((f, str(v)) for f, v in node.op if (node.id, f) not in held)
            reads = tuple((port, value.node) for port, value in graph.operands(node))
            steps.append((node.op.name, fields, reads))
    return tuple(steps), tuple(value.node for _, value in graph.outputs)


def joined(operations: Sequence[str]) -> str:
    """The names of operations, short enough for one."""
    return "_".join(operations if len(operations) <= 4 else (*operations[:2], *operations[-2:]))


class Chain(Primitive):
    """The graph of its body at every element; inputs are broadcast by name. `axis` lies last in memory: that of norms,
    of weights, or of what is not the same along others; where there is none, all inputs have all axes.
    """

    name: ClassVar[str] = "chain"
    inputs: ClassVar[tuple[str, ...]] = ("*xs",)
    does: ClassVar[str] = "in one pass over memory"  # for `explain`

    graph: Any  # Graph
    made_of: tuple[str, ...] = ()  # the operations of the source
    axis: str = ""

    def infer(self, facts: Facts, xs: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        return tuple(value.type for _, value in self.graph.outputs)

    @property
    def ports(self) -> list[str]:
        """What its inputs are called."""
        return list(self.graph.inputs)

    def lies(self, x: TensorType) -> Lies:
        """How an input lies in the tiles of a kernel."""
        if self.axis and x.names == (self.axis,):
            return "column"
        return "tile" if not self.axis or self.axis in x else "row"

    def is_full(self, x: TensorType) -> bool:
        """Whether an input has all axes."""
        return len(x.axes) == len(self.graph.outputs[0][1].type.axes)

    @property
    def skeleton(self) -> tuple[Any, ...]:
        """Chains with equal skeletons are one kernel: sizes and fractions may differ."""
        return tuple((self.lies(x.type), self.is_full(x.type)) for x in self.graph.inputs.values()), bones(self.graph)

    @property
    def title(self) -> str:
        """Its operations: `fused_add_rms_norm`."""
        return f"fused_{joined(self.made_of)}"

    def emit(self, code: Emission, xs: tuple[Term, ...]) -> Term | tuple[Term, ...]:
        types: tuple[TensorType, ...] = code.inputs[0]
        first = next(x for x, type_ in zip(xs, types, strict=True) if self.is_full(type_))
        order = code.last(first, (self.axis,) if self.axis else ()).order
        given = [
            x if self.lies(type_) == "column" else placed(code, x, order) for x, type_ in zip(xs, types, strict=True)
        ]
        numbers = [code.const(value) for _, _, value in fractions(self.graph)]
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
