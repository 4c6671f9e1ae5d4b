"""Window order: where attention runs inside cells, the map is brought into the order of the cells once, and back once,
and what works on each place alone runs in that order. Else q, k and v would each be cut into cells, and what is made of
them joined.

A permutation of places goes through all that works on each place alone, and two in a row are one. So blocks are also
written to take and give maps in the order of cells, where their caller then copies less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archlang.facts import Facts
from archlang.ir import Arrange, Call, Graph, Input, Node, Rebuild, Value
from archlang.passes.places import (
    FREE,
    MAP,
    Need,
    as_number,
    commutes,
    cut,
    fits,
    is_one_by_one,
    is_table,
    order_of,
    table_order,
    touches,
)
from archlang.primitives import CONSTRUCTS
from archlang.primitives.cell_order import CELL, CellBorder, CellOrder, Order
from archlang.primitives.domain import Full
from archlang.rewrite import Event, Record, describe

Key = tuple[int, int]
Given = tuple[tuple[str, Order], ...]  # the inputs that come in the order of cells


def window_order(graph: Graph, record: Record) -> Graph:
    """Attention in cells finds their places side by side: one permutation before, and one behind."""
    found = [order_of(part, node) for part in graph.children_first() for node in part]
    if all(order is None or order.axes[0].size == 1 for order in found):
        return graph
    made = _Blocks().closed(graph).graph
    for part in made.children_first():
        _note(part, record)
    return made


def _note(part: Graph, record: Record) -> None:
    """What was done in a block."""
    moved = [node for node in part if isinstance(node.op, CellOrder)]
    inside = [node for node in part if node.op.name == "attend" and CELL in part.input_types(node)[0]]
    if moved or inside:
        spared = sum(cut(part, node, CELL in _bias(part, node)) for node in inside)
        spared -= sum(as_number(node.types[0].bytes) for node in moved if not _order(node).is_view)
        lines = tuple(describe(part, node) for node in part if node in moved or node in inside)
        place = (record.stage, "window_order", part.name, (inside or moved)[0].span)
        record.events.append(Event(*place, added=lines, saved=spared))


def _order(node: Node) -> CellOrder:
    assert isinstance(node.op, CellOrder)
    return node.op


def _bias(part: Graph, node: Node) -> tuple[str, ...]:
    bias = dict(part.operands(node)).get("bias")
    return bias.type.names if bias else ()


def _moved(size: Any, op: CellOrder) -> int:
    """The bytes that a permutation copies; a view is better than two."""
    return int(op.old != op.new) if op.is_view else as_number(size)


@dataclass(frozen=True)
class Form:
    """A graph as it is written for inputs in some orders: those of its outputs, and the bytes that it copies."""

    graph: Graph
    orders: tuple[Order | None, ...]
    copied: int


@dataclass(frozen=True)
class Way:
    """How a graph is written: with what inputs in the order of cells, whether its outputs may stay in one, whether its
    own attention is in cells, and whether its blocks take and give the order of cells.
    """

    given: Given = ()
    opens: bool = False
    own: bool = False
    blocks: bool = False


class _Blocks:
    """The forms of all blocks of a network."""

    def __init__(self) -> None:
        self._closed: dict[str, Form] = {}
        self._opened: dict[tuple[str, Given], Form] = {}
        self._ports: dict[str, dict[str, Need]] = {}
        self._inside: dict[str, bool] = {}

    def closed(self, graph: Graph) -> Form:
        """As a caller knows it, in the way that copies least."""
        if not self.is_inside(graph):
            return Form(graph, (None,) * len(graph.outputs), 0)
        if graph.digest not in self._closed:
            forms = (_Walk(self, graph, way).form() for way in _ways(graph))
            self._closed[graph.digest] = min(forms, key=lambda form: form.copied)
        return self._closed[graph.digest]

    def opened(self, graph: Graph, given: Given) -> Form:
        """With these inputs in the order of cells, and outputs in whatever order they come."""
        key = graph.digest, given
        if key not in self._opened:
            self._opened[key] = _Walk(self, graph, Way(given, True, True, True)).form()
        return self._opened[key]

    def is_inside(self, graph: Graph) -> bool:
        """Whether it, or a block that it calls, attends inside cells."""
        if graph.digest not in self._inside:
            own = any(order_of(graph, node) for node in graph)
            blocks = (node.op.graph for node in graph if isinstance(node.op, Call))
            self._inside[graph.digest] = own or any(map(self.is_inside, blocks))
        return self._inside[graph.digest]

    def ports(self, graph: Graph) -> Mapping[str, Need]:
        """The order in which a block wants its inputs."""
        if graph.digest not in self._ports:
            needs = _needs(self, graph, Way((), True, True, True))
            self._ports[graph.digest] = {port: needs.get((x.node, 0), FREE) for port, x in graph.inputs.items()}
        return self._ports[graph.digest]


def _ways(graph: Graph) -> list[Way]:
    """The ways of a graph that its callers know nothing of: where two are one, it is written once."""
    own = any(order_of(graph, node) or is_table(node) for node in graph)
    blocks = any(isinstance(node.op, Call) for node in graph)
    return [Way(), *([Way(own=True)] if own else []), *([Way(own=True, blocks=True)] if blocks else [])]


def _opens(node: Node) -> bool:
    """Whether a call may give and get maps in another order."""
    return isinstance(node.op, Call) and not node.op.layers and not node.op.graph.losses and not node.op.graph.layers


def _needs(blocks: _Blocks, graph: Graph, way: Way) -> dict[Key, Need]:
    """The order in which its readers want each value, from the last to the first."""
    found: dict[Key, Need] = {}
    outputs = {(value.node, value.output) for _, value in graph.outputs}
    for value in graph.results():
        key = value.node, value.output
        found[key] = FREE if way.opens and key in outputs else MAP
    for node in reversed(list(graph)):
        for argument, value in graph.operands(node):
            key = value.node, value.output
            found[key] = found.get(key, FREE) | _need(blocks, graph, way, node, argument, found)
    return found


def _need(blocks: _Blocks, graph: Graph, way: Way, node: Node, argument: str, found: Mapping[Key, Need]) -> Need:
    """The order in which a node wants an operand."""
    if way.own and argument in ("q", "k", "v") and (order := order_of(graph, node)):
        return frozenset({order})
    if way.own and is_table(node):
        return FREE
    if way.blocks and isinstance(node.op, Call) and _opens(node):
        return blocks.ports(node.op.graph)[argument]
    if not is_one_by_one(node):
        return MAP
    need = _of_results(node, found)
    return frozenset(order if order is None or commutes(graph, node, order) else None for order in need)


def _of_results(node: Node, found: Mapping[Key, Need]) -> Need:
    """The orders in which the results of a node are wanted."""
    return FREE.union(*(found.get((node.id, output), FREE) for output in range(len(node.types))))


class _Walk:
    """Writes a graph in one way."""

    def __init__(self, blocks: _Blocks, graph: Graph, way: Way) -> None:
        self.blocks, self.graph, self.way = blocks, graph, way
        self.needs = _needs(blocks, graph, way)
        self.rebuild = Rebuild(graph)
        self.have: dict[Key, dict[Order | None, Value]] = {}  # each value by order, first that in which it was made
        self.copied = 0

    def form(self) -> Form:
        for node in self.graph:
            made, orders = self.visit(node)
            self.rebuild.put(node, made)
            for output, (value, order) in enumerate(zip(made, orders, strict=True)):
                self.have[node.id, output] = {order: value}
        orders = tuple(next(iter(self.of(value))) if self.way.opens else None for _, value in self.graph.outputs)
        for value in () if self.way.opens else self.graph.results():
            self.rebuild.move(next(iter(self.of(value).values())), self.get(value, None))
        return Form(self.rebuild.finish(), orders, self.copied)

    def visit(self, node: Node) -> tuple[Sequence[Value], Sequence[Order | None]]:
        """What stands for the results of a node, and in which order."""
        if isinstance(node.op, Input):
            return self.input(node, node.op.port)
        if order := order_of(self.graph, node):
            if self.way.own:
                return self.attend(node, order)
            self.copied += cut(self.graph, node, order.shifts)
        if self.way.own and is_table(node):
            return self.table(node)
        if isinstance(node.op, Call):
            return self.call(node, node.op)
        best = self.best(node, [value for _, value in self.graph.operands(node)])
        operands = [(argument, self.get(value, best)) for argument, value in self.graph.operands(node)]
        made = self.rebuild.apply(node.op, operands, node)
        return made, [best if best and touches(type_, best) else None for type_ in node.types]

    def input(self, node: Node, port: str) -> tuple[Sequence[Value], Sequence[Order | None]]:
        order = dict(self.way.given).get(port)
        if order is None:
            return self.rebuild.apply(node.op, [], node), [None]
        (type_,) = node.types
        return [self.rebuild.new.add_input(port, CellOrder(after=order).infer(Facts(), type_), node.span)], [order]

    def attend(self, node: Node, order: Order) -> tuple[Sequence[Value], Sequence[Order | None]]:
        """Attention in cells, where a cell is a map of its own."""
        operands = dict(self.graph.operands(node))
        given = {a: self.get(value, order if a in ("q", "k", "v") else None) for a, value in operands.items()}
        if order.shifts:
            border = self.rebuild.add(CellBorder(order=order), (), node)
            bias = given.get("bias")
            add: Any = CONSTRUCTS["add"]
            given["bias"] = self.rebuild.add(add(), [("a", bias), ("b", border)], node) if bias else border
        op = node.op.model_copy(update={"over": Full(), "on": order.names})
        return self.rebuild.apply(op, list(given.items()), node), [order]

    def table(self, node: Node) -> tuple[Sequence[Value], Sequence[Order | None]]:
        """A bias for the places of a cell, of which it looks at the type alone."""
        operands, order = self.graph.operands(node), table_order(self.graph, node)
        inside = order is not None and all(order in self.of(value) for _, value in operands)
        op = node.op.model_copy(update={"over": Full(), "on": order.names}) if order and inside else node.op
        given = [(argument, self.get(value, order if inside else None)) for argument, value in operands]
        return self.rebuild.apply(op, given, node), [None]

    def call(self, node: Node, op: Call) -> tuple[Sequence[Value], Sequence[Order | None]]:
        """A block in the form that suits its inputs."""
        operands = self.graph.operands(node)
        orders = self.wanted(node, op) if self.way.blocks and _opens(node) else {}
        given = tuple((port, order) for port, _ in operands if (order := orders.get(port)))
        opens = bool(given) or (self.way.blocks and _opens(node) and self.blocks.is_inside(op.graph))
        form = self.blocks.opened(op.graph, given) if opens else self.blocks.closed(op.graph)
        self.copied += form.copied
        inner = op.model_copy(update={"graph": form.graph})
        values = [(port, self.get(value, orders.get(port))) for port, value in operands]
        return self.rebuild.apply(inner, values, node), form.orders

    def wanted(self, node: Node, op: Call) -> dict[str, Order | None]:
        """In which order a block gets each input: as it wants it, else as they are."""
        ports, operands = self.blocks.ports(op.graph), self.graph.operands(node)
        stated = next((order for need in ports.values() for order in need if len(need) == 1 and order), None)
        order = stated or self.best(node, [value for port, value in operands if ports[port] == FREE])
        found: dict[str, Order | None] = {}
        for port, value in operands:
            wish = order if ports[port] == FREE else next(iter(ports[port])) if len(ports[port]) == 1 else None
            found[port] = wish if wish and fits(value.type, wish) else None
        return found

    # ---- orders
    def of(self, value: Value) -> dict[Order | None, Value]:
        return self.have[value.node, value.output]

    def get(self, value: Value, order: Order | None) -> Value:
        """A value in an order; what has no places has none."""
        have = self.of(value)
        if order is not None and not touches(value.type, order):
            order = None
        if order not in have:
            before = next(iter(have))
            self.copied += _cost(value, before, order)
            at = self.graph.producer(value)
            made = self.rebuild.add(CellOrder(before=before, after=order), [("x", have[before])], at)
            if order is None and made.type.names != value.type.names:
                made = self.rebuild.add(Arrange(order=value.type.names), [("x", made)], at)
            have[order] = made
        return have[order]

    def best(self, node: Node, values: Sequence[Value]) -> Order | None:
        """The order in which a node copies least of its operands, and of its results for those that read them."""
        need = _of_results(node, self.needs)
        known = dict.fromkeys(
            [*sorted(need - MAP, key=str), *(order for value in values for order in self.of(value)), None]
        )
        costs = {
            order: (self._copies(node, values, order, need), (order is None) != (need == MAP))
            for order in known
            if order is None or self._goes(node, order)
        }
        return min(costs, key=costs.__getitem__)

    def _goes(self, node: Node, order: Order) -> bool:
        """Whether a node may run in an order."""
        if not isinstance(node.op, Call):
            return commutes(self.graph, node, order)
        types = [value.type for _, value in self.graph.operands(node)]
        return all(fits(type_, order) for type_ in (*types, *node.types) if touches(type_, order))

    def _copies(self, node: Node, values: Sequence[Value], order: Order | None, need: Need) -> int:
        """The bytes that are copied to run a node in an order."""
        before = sum(_cost(value, next(iter(self.of(value))), order) for value in values if order not in self.of(value))
        return before + len(need - {order}) * sum(as_number(type_.bytes) for type_ in node.types)


def _cost(value: Value, before: Order | None, after: Order | None) -> int:
    """The bytes that are copied to bring a value from one order to another."""
    if after is not None and not touches(value.type, after):
        return 0
    return _moved(value.type.bytes, CellOrder(before=before, after=after))
