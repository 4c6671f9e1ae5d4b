"""Which order of the places of a map each node runs in, and each block takes and gives: that which copies least.

A permutation of places goes through all that works on each place alone, and two in a row are one. So blocks may also
take and give maps in the order of cells, where their caller then copies less.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from archlang.ir import Call, Graph, Input, Node, Value
from archlang.passes.places import (
    FREE,
    MAP,
    Need,
    commutes,
    cut,
    fits,
    is_one_by_one,
    is_table,
    order_of,
    sample_bytes,
    table_order,
    touches,
)
from archlang.primitives.cell_order import CellOrder, Order
from archlang.shapes import TensorType

Key = tuple[int, int]
Given = tuple[tuple[str, Order], ...]  # the inputs that come in the order of cells


@dataclass(frozen=True)
class Way:
    """How a graph is written: with what inputs in the order of cells, whether its outputs may stay in one, whether its
    own attention is in cells, and whether its blocks take and give the order of cells.
    """

    given: Given = ()
    opens: bool = False
    own: bool = False
    blocks: bool = False


@dataclass(eq=False)
class Plan:
    """A graph as it is to be written: the order in which each node runs, and those of what it makes; the orders that
    each block gets, and its plan; those of the outputs, and the bytes that all of this copies. Where it `opens`, the
    outputs stay in the orders in which they are made.
    """

    graph: Graph
    opens: bool = False
    runs: dict[int, Order | None] = field(default_factory=dict)
    made: dict[Key, Order | None] = field(default_factory=dict)
    calls: dict[int, tuple[Mapping[str, Order | None], "Plan"]] = field(default_factory=dict)
    orders: tuple[Order | None, ...] = ()
    copied: int = 0


class Plans:
    """The plans of all blocks of a network."""

    def __init__(self) -> None:
        self._closed: dict[str, Plan] = {}
        self._opened: dict[tuple[str, Given], Plan] = {}
        self._ports: dict[str, dict[str, Need]] = {}
        self._inside: dict[str, bool] = {}
        self._cells: dict[tuple[str, int], Order | None] = {}
        self._goes: dict[tuple[str, int, Order], bool] = {}

    def closed(self, graph: Graph) -> Plan:
        """As a caller knows it, in the way that copies least."""
        if graph.digest not in self._closed:
            ways = self._ways(graph) if self.is_inside(graph) else ()
            plans = [_Walk(self, graph, way).plan() for way in ways] or [as_it_is(graph)]
            self._closed[graph.digest] = min(plans, key=lambda plan: plan.copied)
        return self._closed[graph.digest]

    def opened(self, graph: Graph, given: Given) -> Plan:
        """With these inputs in the order of cells, and outputs in whatever order they come."""
        key = graph.digest, given
        if key not in self._opened:
            self._opened[key] = _Walk(self, graph, Way(given, True, True, True)).plan()
        return self._opened[key]

    def is_inside(self, graph: Graph) -> bool:
        """Whether it, or a block that it calls, attends inside cells."""
        if graph.digest not in self._inside:
            own = any(self.cells(graph, node) for node in graph)
            blocks = (node.op.graph for node in graph if isinstance(node.op, Call))
            self._inside[graph.digest] = own or any(map(self.is_inside, blocks))
        return self._inside[graph.digest]

    def ports(self, graph: Graph) -> Mapping[str, Need]:
        """The order in which a block wants its inputs."""
        if graph.digest not in self._ports:
            needs = _needs(self, graph, Way((), True, True, True))
            self._ports[graph.digest] = {port: needs.get((x.node, 0), FREE) for port, x in graph.inputs.items()}
        return self._ports[graph.digest]

    def cells(self, graph: Graph, node: Node) -> Order | None:
        """The order in which an attention finds its cells side by side."""
        key = graph.digest, node.id
        if key not in self._cells:
            self._cells[key] = order_of(graph, node)
        return self._cells[key]

    def goes(self, graph: Graph, node: Node, order: Order) -> bool:
        """Whether a node may run in an order."""
        key = graph.digest, node.id, order
        if key not in self._goes:
            self._goes[key] = (_passes if isinstance(node.op, Call) else commutes)(graph, node, order)
        return self._goes[key]

    def _ways(self, graph: Graph) -> list[Way]:
        """The ways of a graph that its callers know nothing of: where two are one, it is planned once."""
        own = any(self.cells(graph, node) or is_table(node) for node in graph)
        blocks = any(isinstance(node.op, Call) for node in graph)
        return [Way(), *([Way(own=True)] if own else []), *([Way(own=True, blocks=True)] if blocks else [])]


def as_it_is(graph: Graph) -> Plan:
    """A graph that is not written anew."""
    return Plan(graph, orders=(None,) * len(graph.outputs))


def _opens(node: Node) -> bool:
    """Whether a call may give and get maps in another order."""
    return isinstance(node.op, Call) and not node.op.layers and not node.op.graph.losses and not node.op.graph.layers


def _passes(graph: Graph, node: Node, order: Order) -> bool:
    """Whether a call is of whole maps alone."""
    types = (*(value.type for _, value in graph.operands(node)), *node.types)
    return all(fits(type_, order) for type_ in types if touches(type_, order))


def _needs(plans: Plans, graph: Graph, way: Way) -> dict[Key, Need]:
    """The order in which its readers want each value, from the last to the first."""
    found: dict[Key, Need] = {}
    outputs = {(value.node, value.output) for _, value in graph.outputs}
    for value in graph.results():
        key = value.node, value.output
        found[key] = FREE if way.opens and key in outputs else MAP
    for node in reversed(list(graph)):
        for argument, value in graph.operands(node):
            key = value.node, value.output
            found[key] = found.get(key, FREE) | _need(plans, graph, way, node, argument, found)
    return found


def _need(plans: Plans, graph: Graph, way: Way, node: Node, argument: str, found: Mapping[Key, Need]) -> Need:
    """The order in which a node wants an operand."""
    if way.own and argument in ("q", "k", "v") and (order := plans.cells(graph, node)):
        return frozenset({order})
    if way.own and is_table(node):
        return FREE
    if way.blocks and isinstance(node.op, Call) and _opens(node):
        return plans.ports(node.op.graph)[argument]
    if not is_one_by_one(node):
        return MAP
    need = _of_results(node, found)
    return frozenset(order if order is None or plans.goes(graph, node, order) else None for order in need)


def _of_results(node: Node, found: Mapping[Key, Need]) -> Need:
    """The orders in which the results of a node are wanted."""
    return FREE.union(*(found.get((node.id, output), FREE) for output in range(len(node.types))))


class _Walk:
    """Plans a graph in one way."""

    def __init__(self, plans: Plans, graph: Graph, way: Way) -> None:
        self.plans, self.graph, self.way = plans, graph, way
        self.needs = _needs(plans, graph, way)
        self.made = Plan(graph, way.opens)
        self.have: dict[Key, list[Order | None]] = {}  # the orders of each value, first that in which it is made

    def plan(self) -> Plan:
        for node in self.graph:
            for output, order in enumerate(self.visit(node)):
                self.made.made[node.id, output] = order
                self.have[node.id, output] = [order]
        if self.way.opens:
            self.made.orders = tuple(self.of(value)[0] for _, value in self.graph.outputs)
            return self.made
        for value in self.graph.results():
            self.bring(value, None)
        self.made.orders = (None,) * len(self.graph.outputs)
        return self.made

    def visit(self, node: Node) -> Iterable[Order | None]:
        """In which orders the results of a node come."""
        if isinstance(node.op, Input):
            return [dict(self.way.given).get(node.op.port)]
        if order := self.plans.cells(self.graph, node):
            if self.way.own:
                return self.attend(node, order)
            self.made.copied += cut(self.graph, node, order.shifts)
        if self.way.own and is_table(node):
            return self.table(node)
        if isinstance(node.op, Call):
            return self.call(node, node.op)
        best = self.run(node, self.best(node, [value for _, value in self.graph.operands(node)]))
        return [best if best and touches(type_, best) else None for type_ in node.types]

    def attend(self, node: Node, order: Order) -> Iterable[Order | None]:
        """Attention in cells, where a cell is a map of its own."""
        self.made.runs[node.id] = order
        for argument, value in self.graph.operands(node):
            self.bring(value, order if argument in ("q", "k", "v") else None)
        return [order]

    def table(self, node: Node) -> Iterable[Order | None]:
        """A bias for the places of a cell, of which it looks at the type alone."""
        order = table_order(self.graph, node)
        self.run(node, order if order and self.is_inside(node, order) else None)
        return [None]

    def is_inside(self, node: Node, order: Order) -> bool:
        """Whether the q and k of a bias are in an order, or the attention that reads it brings them there."""
        operands = self.graph.operands(node)
        return all(order in self.of(value) for _, value in operands) or any(
            self.plans.cells(self.graph, reader) == order and self.graph.operands(reader)[:2] == operands
            for reader, _ in self.graph.users(Value(self.graph, node.id, 0, node.types[0]))
        )

    def call(self, node: Node, op: Call) -> Iterable[Order | None]:
        """A block in the form that suits its inputs."""
        operands, opens = self.graph.operands(node), self.way.blocks and _opens(node)
        orders = self.wanted(node, op) if opens else {}
        given = tuple((port, order) for port, _ in operands if (order := orders.get(port)))
        opens = bool(given) or (opens and self.plans.is_inside(op.graph))
        plan = self.plans.opened(op.graph, given) if opens else self.plans.closed(op.graph)
        self.made.calls[node.id] = orders, plan
        self.made.copied += plan.copied
        for port, value in operands:
            self.bring(value, orders.get(port))
        return plan.orders

    def wanted(self, node: Node, op: Call) -> dict[str, Order | None]:
        """In which order a block gets each input: as it wants it, else as they are."""
        ports, operands = self.plans.ports(op.graph), self.graph.operands(node)
        stated = next((order for need in ports.values() for order in need if len(need) == 1 and order), None)
        order = stated or self.best(node, [value for port, value in operands if ports[port] == FREE])
        found: dict[str, Order | None] = {}
        for port, value in operands:
            wish = order if ports[port] == FREE else next(iter(ports[port])) if len(ports[port]) == 1 else None
            found[port] = wish if wish and fits(value.type, wish) else None
        return found

    # ---- orders
    def of(self, value: Value) -> list[Order | None]:
        return self.have[value.node, value.output]

    def run(self, node: Node, order: Order | None) -> Order | None:
        """Run a node in an order."""
        self.made.runs[node.id] = order
        for _, value in self.graph.operands(node):
            self.bring(value, order)
        return order

    def bring(self, value: Value, order: Order | None) -> None:
        """Have a value in an order; what has no places has none."""
        order = order if order and touches(value.type, order) else None
        have = self.of(value)
        if order not in have:
            self.made.copied += _cost(value.type, have[0], order)
            have.append(order)

    def best(self, node: Node, values: Sequence[Value]) -> Order | None:
        """The order in which a node copies least of its operands, and of its results for those that read them."""
        need = _of_results(node, self.needs)
        known = dict.fromkeys([*sorted(need - MAP, key=str), *(o for value in values for o in self.of(value)), None])
        made = sum(sample_bytes(type_) for type_ in node.types)
        costs = {
            order: (self._copies(values, order) + len(need - {order}) * made, (order is None) != (need == MAP))
            for order in known
            if order is None or self.plans.goes(self.graph, node, order)
        }
        return min(costs, key=costs.__getitem__)

    def _copies(self, values: Sequence[Value], order: Order | None) -> int:
        """The bytes that are copied to have values in an order."""
        return sum(_cost(value.type, self.of(value)[0], order) for value in values if order not in self.of(value))


def _cost(type_: TensorType, before: Order | None, after: Order | None) -> int:
    """The bytes that are copied to bring a value from one order to another; a view is better than two."""
    if after is not None and not touches(type_, after):
        return 0
    moved, copied = _moved(before, after)
    return sample_bytes(type_) if copied else int(moved)


@cache
def _moved(before: Order | None, after: Order | None) -> tuple[bool, bool]:
    """Whether the axes of a map become others, and whether its places move."""
    op: Any = CellOrder(before=before, after=after)
    return op.old != op.new, not op.is_view
