"""The body of a scan in PyTorch: the operations write themselves, for tensors with the axes of a batch."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from archlang.emit import names
from archlang.emit.chains.plain import LONG, called
from archlang.emit.writer import Writer
from archlang.ir import Graph, Input, Node, TiledScan
from archlang.ir.tiled_scan import Layout
from archlang.primitive import Term


class Loop:
    """The statements at one position, and what they lead to: what is carried on, then what is yielded."""

    def __init__(
        self, scan: TiledScan, layout: Layout, given: Mapping[int, str], held: Mapping[tuple[int, str], str]
    ) -> None:
        self.graph: Graph = scan.graph
        self.draft, self.held, self.lines = None, held, list[str]()
        self._taken = {*given.values(), *held.values()}
        self._terms = {
            value.node: Term(given[value.node], layout.order(value.type)) for value in self.graph.inputs.values()
        }
        reads = (value.node for node in self.graph for _, value in self.graph.operands(node))
        self._uses = Counter([*reads, *(value.node for _, value in self.graph.outputs)])
        for node in self.graph:
            if not isinstance(node.op, Input):
                self._write(node)
        self.results = [self._ordered(value.node, layout.order(value.type)) for _, value in self.graph.outputs]

    def _write(self, node: Node) -> None:
        code = Code(self, node)
        given = [(port, self._terms[value.node]) for port, value in self.graph.operands(node)]
        op: Any = node.op
        made = op.emit(code, *self.graph.arguments(node.op, given))
        named = self._uses[node.id] > 1 or len(made.code) > LONG
        self._terms[node.id] = self.bind(made, called(node)) if named else made

    def _ordered(self, node: int, order: tuple[str, ...]) -> str:
        return Code(self, self.graph.node(node)).permute(self._terms[node], order).code

    def bind(self, term: Term, *hints: str) -> Term:
        """A variable for a value."""
        if term.code.isidentifier():
            return term
        name = names.numbered(names.local(hints[-1]), lambda n: n not in self._taken)
        self._taken.add(name)
        self.lines.append(f"{name} = {term.code}")
        return Term(name, term.order)


class Code(Writer):
    """Writes one operation; the fractions that it holds are arguments of the function around it."""

    def __init__(self, loop: Any, node: Node) -> None:
        super().__init__(loop, node, loop.graph.input_types(node))

    def const(self, value: Any) -> str:
        fields = {field for field, own in self._node.op if own == value}
        held: Mapping[tuple[int, str], str] = self._body.held  # type: ignore[attr-defined]
        return next((held[self._node.id, field] for field in fields if (self._node.id, field) in held), repr(value))

    def option(self, value: Any, default: Any) -> str:
        text = self.const(value)
        return "" if text == repr(default) else f", {text}"
