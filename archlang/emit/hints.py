"""What a value that has no name could be called."""

import builtins
from collections.abc import Iterable

from archlang.ir import Graph, Node, Value
from archlang.primitives.shape import Select

PARTS = frozenset("q k v bias mask scale sink decay log_decay beta dt".split())  # of attention and recurrences
_NEAR, _FAR = 3, 20  # layers that a value is followed through


def hints(graph: Graph, value: Value, reads: Iterable[str]) -> list[str]:
    """Names for a value, the best first: the user's; its part in attention or a recurrence; that of what it becomes;
    that of the input that takes it; its layer; a variable that it `reads`; its operation, unless Python has a function
    of that name. One part of a value that has a name is called after that, unless it soon becomes something.
    """
    node, users = graph.node(value.node), graph.users(value)
    if name := graph.name_of(value):
        return [name]
    if part := next((argument for _, argument in users if argument in PARTS), None):
        return [part]
    takes = [argument for _, argument in users[:1] if len(argument) > 1 and argument.isidentifier()]
    found: list[str] = []
    if own := _part(graph, node):
        found += [*_becomes(graph, value, _NEAR), *takes, *own]
    found += [*_becomes(graph, value, _FAR), *takes]
    found += [node.label.split(".")[0].lstrip("@")] if node.label else []
    hidden = hasattr(builtins, node.op.name)
    return [*found, *reads, *([] if hidden else [node.op.name])] or ["value"]


def _part(graph: Graph, node: Node) -> list[str]:
    """`m[part = 1]` is `m1`."""
    if not isinstance(node.op, Select) or node.op.index < 0:
        return []
    (_, whole), *_ = graph.operands(node)
    name = graph.name_of(whole)
    return [f"{name}{node.op.index}"] if name else []


def becoming(graph: Graph, node: Node) -> list[str]:
    """Names for values on the way to the result of a node."""
    if node.id < 0 or len(node.types) != 1:  # the end of the graph, or several results
        return []
    value = Value(graph, node.id, 0, node.types[0])
    own = graph.name_of(value)
    return [*([own] if own else []), *_becomes(graph, value, _FAR)]


def _becomes(graph: Graph, value: Value, far: int) -> list[str]:
    """The user's name of the value that a chain of layers makes of it, at most so many."""
    for _ in range(far):
        users = graph.users(value)
        if len(users) != 1 or len(users[0][0].types) != 1:
            break
        if name := users[0][0].name:
            return [name]
        value = Value(graph, users[0][0].id, 0, users[0][0].types[0])
    return []
