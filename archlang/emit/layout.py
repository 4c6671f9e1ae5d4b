"""The physical order of axes between modules: each input comes as its first reader with an opinion wants it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from archlang.ir import Call, Chain, Graph, Node, Value
from archlang.primitive import axes_of
from archlang.primitives.linear import Linear, contracted
from archlang.primitives.norm import LayerNorm, RMSNorm
from archlang.primitives.shape import Select
from archlang.shapes import TensorType

Orders: TypeAlias = Callable[[Call, str], Sequence[str] | None]
_FAR = 64  # readers looked at before giving up


def first(type_: TensorType) -> tuple[str, ...]:
    """Channels before the axes that a kernel slides over: batch, free axes, `c`, space and time."""
    slid = type_.of_role("space", "time")
    return (*(name for name in _batch_first(type_) if name != "c" and name not in slid), "c", *slid)


def last(type_: TensorType, names: Sequence[str] = ("c",)) -> tuple[str, ...]:
    """Channels, or other axes, last, batch first, the rest as declared."""
    return (*(name for name in _batch_first(type_) if name not in names), *names)


def _batch_first(type_: TensorType) -> tuple[str, ...]:
    batch = type_.of_role("batch")
    return (*batch, *(name for name in type_.names if name not in batch))


def wish(value: Value, called: Orders) -> tuple[str, ...] | None:
    """The order that the first reader with an opinion wants, seen through those that have none."""
    queue = [value]
    for at in queue:
        for node, argument in at.graph.users(at):
            order = called(node.op, argument) if isinstance(node.op, Call) else None
            if order is not None and set(order) == set(value.type.names):
                return tuple(order)
            if isinstance(node.op, Linear) and argument == "x":
                return last(value.type, contracted(node.op.on, value.type))
            if isinstance(node.op, LayerNorm | RMSNorm):
                return last(value.type, axes_of(node.op.on, value.type))
            if isinstance(node.op, Chain) and node.op.axis in value.type:
                return last(value.type, (node.op.axis,))
            if node.op.prefers and "c" in value.type:
                return first(value.type) if node.op.prefers == "first" else last(value.type)
            if len(queue) < _FAR and len(node.types) == 1 and _keeps(node, value.type):
                queue.append(Value(at.graph, node.id, 0, node.types[0]))
    return None


def _keeps(node: Node, type_: TensorType) -> bool:
    """Whether a reader without an opinion makes what has the axes of the value, or one position of it."""
    made = set(node.types[0].names)
    return made == set(type_.names) or (isinstance(node.op, Select) and "c" in made and made < set(type_.names))


def plan(graphs: Iterable[Graph]) -> dict[str, dict[str, tuple[str, ...]]]:
    """The orders of the inputs of graphs, by digest, from graphs given children first; bodies of one loop agree."""
    graphs, found = list(graphs), dict[str, dict[str, tuple[str, ...]]]()
    orders: Orders = lambda call, port: found[call.graph.digest].get(port)  # noqa: E731
    for graph in graphs:
        loops: dict[str, list[Graph]] = {}
        for _, node in graph.deep():
            if isinstance(node.op, Call) and node.label and "." in node.label:
                loops.setdefault(node.label.split(".")[0], []).append(node.op.graph)
        for bodies in loops.values():
            _agree([found[body.digest] for body in bodies])
        wishes = [(port, wish(value, orders)) for port, value in graph.inputs.items()]
        found[graph.digest] = {port: order for port, order in wishes if order}
    for graph in reversed(graphs):
        own = found[graph.digest]
        own.update({port: _batch_first(v.type) for port, v in graph.inputs.items() if port not in own})
        for part, node in graph.deep():
            if isinstance(node.op, Call):
                _follow(part, node, node.op.graph, orders, found[node.op.graph.digest])
    return found


def _follow(graph: Graph, node: Node, block: Graph, orders: Orders, found: dict[str, tuple[str, ...]]) -> None:
    """The inputs of a block in which nothing has an opinion come as the readers of what it makes of them want that, or
    else of what it makes over the same axes.
    """
    for port, value in block.inputs.items():
        alike = [i for i, (_, made) in enumerate(block.outputs) if set(made.type.names) == set(value.type.names)]
        for output in sorted(alike, key=lambda i: not _becomes(block, value, block.outputs[i][1])):
            if port not in found and (order := wish(Value(graph, node.id, output, node.types[output]), orders)):
                found[port] = order


def _becomes(graph: Graph, value: Value, result: Value) -> bool:
    """Whether operations without an opinion make a result of a value."""
    queue = [value]
    for at in queue:
        if at == result:
            return True
        users = [node for node, _ in graph.users(at) if len(node.types) == 1 and _keeps(node, value.type)]
        queue += [Value(graph, node.id, 0, node.types[0]) for node in users if len(queue) < _FAR]
    return False


def _agree(bodies: list[dict[str, tuple[str, ...]]]) -> None:
    """One order for the inputs of one name over the same axes: that of most bodies, else of the first."""
    for port in {port: None for body in bodies for port in body}:
        votes = Counter(body[port] for body in bodies if port in body)
        for body in bodies:
            if port in body:
                body[port] = next(order for order, _ in votes.most_common() if set(order) == set(body[port]))
