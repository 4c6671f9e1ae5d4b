"""Common subexpressions: what is computed twice is computed once."""

from typing import Any

from archlang.ir import Call, Graph, Input, Node, Parameter, Rebuild, Scan, Value
from archlang.rewrite import Record, everywhere


def common_subexpressions(graph: Graph, record: Record) -> Graph:
    """f(x) and f(x) are one value, unless f draws random numbers or makes weights of its own each time."""
    return everywhere(graph, lambda part: _merge(part, record))


def _merge(graph: Graph, record: Record) -> Graph:
    rebuild, known, merged = Rebuild(graph), dict[Any, Node](), False
    for node in graph:
        key = _key(rebuild, node)
        twin = known.get(key) if key is not None else None
        if twin is None:
            known[key] = rebuild.copy(node)
            continue
        rebuild.put(node, [Value(rebuild.new, twin.id, i, type_) for i, type_ in enumerate(twin.types)])
        record.fired("common_subexpressions", graph, node, [node], [])
        merged = True
    return rebuild.finish() if merged else graph


def _key(rebuild: Rebuild, node: Node) -> Any:
    """Nodes with equal keys compute the same. One label is one set of weights."""
    op = node.op
    if op.random or isinstance(op, Input | Parameter | Call | Scan):
        return None
    operands = tuple((argument, value.node, value.output) for argument, value in rebuild.operands(node))
    return (str(op), type(op), node.types, operands, node.label)
