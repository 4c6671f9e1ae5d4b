"""Window order: where attention runs inside cells, the map is brought into the order of the cells once, and back once,
and what works on each place alone runs in that order. Else q, k and v would each be cut into cells, and what is made of
them joined. `orders.py` plans what runs in which order; here a graph is written so.
"""

from collections.abc import Sequence
from typing import Any

from archlang.facts import Facts
from archlang.ir import Arrange, Call, Graph, Input, Node, Rebuild, Value
from archlang.passes.orders import Key, Plan, Plans
from archlang.passes.places import cut, is_table, order_of, sample_bytes, touches
from archlang.primitives import CONSTRUCTS
from archlang.primitives.cell_order import CELL, CellBorder, CellOrder, Order
from archlang.primitives.domain import Full
from archlang.rewrite import Event, Record, describe


def window_order(graph: Graph, record: Record) -> Graph:
    """Attention in cells finds their places side by side: one permutation before, and one behind."""
    found = [order_of(part, node) for part in graph.children_first() for node in part]
    if all(order is None or order.axes[0].size == 1 for order in found):
        return graph
    made = _Written().graph(Plans().closed(graph))
    for part in made.children_first():
        _note(part, record)
    return made


def _note(part: Graph, record: Record) -> None:
    """What was done in a block."""
    moved = [node for node in part if isinstance(node.op, CellOrder)]
    inside = [node for node in part if node.op.name == "attend" and CELL in part.input_types(node)[0]]
    if moved or inside:
        spared = sum(cut(part, node, CELL in _bias(part, node)) for node in inside)
        spared -= sum(sample_bytes(node.types[0]) for node in moved if not _order(node).is_view)
        lines = tuple(describe(part, node) for node in part if node in moved or node in inside)
        place = (record.stage, "window_order", part.name, (inside or moved)[0].span)
        record.events.append(Event(*place, added=lines, saved=spared))


def _order(node: Node) -> CellOrder:
    assert isinstance(node.op, CellOrder)
    return node.op


def _bias(part: Graph, node: Node) -> tuple[str, ...]:
    bias = dict(part.operands(node)).get("bias")
    return bias.type.names if bias else ()


class _Written:
    """The graphs of plans."""

    def __init__(self) -> None:
        self._known: dict[Plan, Graph] = {}

    def graph(self, plan: Plan) -> Graph:
        """A graph in the orders of its plan."""
        if not plan.made:
            return plan.graph
        if plan not in self._known:
            self._known[plan] = _Walk(self, plan).write()
        return self._known[plan]


class _Walk:
    """Writes a graph by its plan."""

    def __init__(self, written: _Written, plan: Plan) -> None:
        self.written, self.plan, self.graph = written, plan, plan.graph
        self.rebuild = Rebuild(plan.graph)
        self.have: dict[Key, dict[Order | None, Value]] = {}  # each value by order, first that in which it was made

    def write(self) -> Graph:
        for node in self.graph:
            made = self.visit(node)
            self.rebuild.put(node, made)
            for output, value in enumerate(made):
                self.have[node.id, output] = {self.plan.made[node.id, output]: value}
        for value in () if self.plan.opens else self.graph.results():
            self.rebuild.move(next(iter(self.of(value).values())), self.get(value, None))
        return self.rebuild.finish()

    def visit(self, node: Node) -> Sequence[Value]:
        """What stands for the results of a node."""
        if isinstance(node.op, Input):
            return self.input(node, node.op.port)
        if isinstance(node.op, Call):
            return self.call(node, node.op)
        order = self.plan.runs[node.id]
        if order and node.op.name == "attend":
            return self.attend(node, order)
        op = node.op.model_copy(update={"over": Full(), "on": order.names}) if order and is_table(node) else node.op
        operands = [(argument, self.get(value, order)) for argument, value in self.graph.operands(node)]
        return self.rebuild.apply(op, operands, node)

    def input(self, node: Node, port: str) -> Sequence[Value]:
        order = self.plan.made[node.id, 0]
        if order is None:
            return self.rebuild.apply(node.op, [], node)
        (type_,) = node.types
        return [self.rebuild.new.add_input(port, CellOrder(after=order).infer(Facts(), type_), node.span)]

    def attend(self, node: Node, order: Order) -> Sequence[Value]:
        """Attention in cells, where a cell is a map of its own."""
        operands = dict(self.graph.operands(node))
        given = {a: self.get(value, order if a in ("q", "k", "v") else None) for a, value in operands.items()}
        if order.shifts:
            border = self.rebuild.add(CellBorder(order=order), (), node)
            bias = given.get("bias")
            add: Any = CONSTRUCTS["add"]
            given["bias"] = self.rebuild.add(add(), [("a", bias), ("b", border)], node) if bias else border
        op = node.op.model_copy(update={"over": Full(), "on": order.names})
        return self.rebuild.apply(op, list(given.items()), node)

    def call(self, node: Node, op: Call) -> Sequence[Value]:
        """A block in the form that suits its inputs."""
        orders, plan = self.plan.calls[node.id]
        inner = op.model_copy(update={"graph": self.written.graph(plan)})
        values = [(port, self.get(value, orders.get(port))) for port, value in self.graph.operands(node)]
        return self.rebuild.apply(inner, values, node)

    def of(self, value: Value) -> dict[Order | None, Value]:
        return self.have[value.node, value.output]

    def get(self, value: Value, order: Order | None) -> Value:
        """A value in an order; what has no places has none."""
        have = self.of(value)
        if order is not None and not touches(value.type, order):
            order = None
        if order not in have:
            before = next(iter(have))
            at = self.graph.producer(value)
            made = self.rebuild.add(CellOrder(before=before, after=order), [("x", have[before])], at)
            if order is None and made.type.names != value.type.names:
                made = self.rebuild.add(Arrange(order=value.type.names), [("x", made)], at)
            have[order] = made
        return have[order]
