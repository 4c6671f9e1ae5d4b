"""Common subexpressions: what is computed twice is computed once."""

from typing import Any

from archlang.ir import Call, Graph, Input, Node, Parameter, Rebuild, Scan, Value
from archlang.rewrite import Record, everywhere


def common_subexpressions(graph: Graph, record: Record) -> Graph:
    """f(x) and f(x) are one value, unless f draws random numbers or makes weights of its own each time."""
    return everywhere(graph, lambda part: _merge(part, record))


def _merge(graph: Graph, record: Record) -> Graph:
    twins = _twins(graph)
    if not twins:
        return graph
    rebuild = Rebuild(graph)
    for node in graph:
        if node.id not in twins:
            rebuild.copy(node)
            continue
        twin = graph.node(twins[node.id])
        rebuild.put(node, [rebuild.value(Value(graph, twin.id, i, type_)) for i, type_ in enumerate(twin.types)])
        record.fired("common_subexpressions", graph, node, [node], [])
    return rebuild.finish()


def _twins(graph: Graph) -> dict[int, int]:
    """The nodes that compute what one before them does, and that one."""
    twins: dict[int, int] = {}
    known: dict[Any, list[Node]] = {}
    for node in graph:
        if (key := _key(graph, node, twins)) is None:
            continue
        alike = known.setdefault(key, [])
        twin = next((other for other in alike if _same(other, node)), None)
        if twin is None:
            alike.append(node)
        else:
            twins[node.id] = twin.id
    return twins


def _same(a: Node, b: Node) -> bool:
    """Whether they are the same operation: -0.0 is equal to 0.0, and is not the same."""
    return a.op == b.op and a.types == b.types and str(a.op) == str(b.op)


def _key(graph: Graph, node: Node, twins: dict[int, int]) -> Any:
    """Nodes of the same operation with equal keys compute the same. One label is one set of weights."""
    op = node.op
    if op.random or isinstance(op, Input | Parameter | Call | Scan):
        return None
    operands = ((argument, twins.get(v.node, v.node), v.output) for argument, v in graph.operands(node))
    return (op.name, tuple(operands), node.label)
