"""A chain in PyTorch: the operations write themselves, with the axis of norms last."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from archlang.emit import names
from archlang.ir import Graph, Input, Node
from archlang.primitive import Term, Types

NORMS = {
    "layer_norm": "F.layer_norm({x}, {x}.shape[-1:], eps={eps})",
    "rms_norm": "F.rms_norm({x}, {x}.shape[-1:], eps={eps})",
    "l2_norm": "F.normalize({x}, dim=-1, eps={eps})",
    "softmax": "{x}.softmax(-1)",
}
LONG = 70  # of an expression that stands in place


class Plain:
    """As much of `Emission` as operations on single elements ask for."""

    def __init__(self, graph: Graph, given: Mapping[int, str], numbers: Mapping[tuple[int, str], str]) -> None:
        self._graph, self._numbers = graph, numbers
        self._terms = {node: Term(name, ("c",)) for node, name in given.items()}
        self._taken = {*given.values(), *numbers.values()}
        self.lines: list[str] = []
        reads = (value.node for node in self._graph for _, value in self._graph.operands(node))
        self._uses = Counter([*reads, *(value.node for _, value in self._graph.outputs)])
        outputs = [value.node for _, value in self._graph.outputs]
        self._several = set(outputs if len(outputs) > 1 else ())
        for node in self._graph:
            if not isinstance(node.op, Input):
                self._write(node)
        self.results = [self._terms[value.node].code for _, value in self._graph.outputs]

    def _write(self, node: Node) -> None:
        self._node = node
        types = Types(tuple(self._graph.input_types(node)), node.types)
        self.inputs, self.outputs = types.inputs, types.outputs
        operands = [(port, self._terms[value.node]) for port, value in self._graph.operands(node)]
        op: Any = node.op
        if node.op.name in NORMS:
            x = self.bind(operands[0][1], node.op.name)
            made = Term(NORMS[node.op.name].format(x=x.code, eps=self.const(getattr(op, "eps", None))), ("c",))
        else:
            made = op.emit(self, *self._graph.arguments(node.op, operands))
        named = self._uses[node.id] > 1 or len(made.code) > LONG or node.id in self._several
        self._terms[node.id] = self.bind(made, called(node)) if named else made

    def const(self, value: Any) -> str:
        """A number, or the argument that holds it."""
        fields = {field for field, own in self._node.op if own == value}
        held = (name for (id, field), name in self._numbers.items() if id == self._node.id and field in fields)
        return next(held, repr(value))

    def option(self, value: Any, default: Any) -> str:
        text = self.const(value)
        return "" if text == repr(default) else f", {text}"

    def bind(self, term: Term, hint: str, part: bool = False) -> Term:
        if term.code.isidentifier():
            return term
        name = names.numbered(names.local(hint), lambda n: n not in self._taken)
        self._taken.add(name)
        self.lines.append(f"{name} = {term.code}")
        return Term(name, term.order)

    def align(self, *terms: Term) -> tuple[Term, ...]:
        return terms


def called(node: Node) -> str:
    """The user's name of what a node makes, or its operation."""
    return node.name or node.op.name
