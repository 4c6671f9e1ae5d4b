"""What no carry of a scan touches, worked out for all positions at once: layers and sums in its body that see only
what comes in.
"""

from collections.abc import Sequence
from typing import Any

from archlang.ir import Call, Foreign, Graph, Input, Kept, Node, Parameter, Rebuild, Scan, Value
from archlang.primitive import OpError
from archlang.rewrite import Event, Record, describe, everywhere


def lifted(graph: Graph, record: Record) -> Graph:
    """scan { .. f(x_t) .. } = scan { .. y_t .. } of y = f(x), where f multiplies or sums."""
    return everywhere(graph, lambda part: _lifted(part, record))


def _lifted(graph: Graph, record: Record) -> Graph:
    found = {node.id: inner for node in graph if type(node.op) is Scan and (inner := _free(node.op))}
    if not found:
        return graph
    rebuild = Rebuild(graph)
    for node in graph:
        if node.id in found:
            _put(rebuild, node, found[node.id], record)
        else:
            rebuild.copy(node)
    return rebuild.finish()


# ---- which operations
def _free(scan: Scan) -> list[Node]:
    """The operations of a body that leave it: those that multiply or sum, and what these follow from."""
    body, types = scan.graph, dict[int, Any]()
    for port, value in body.inputs.items():
        if port not in scan.carries:
            types[value.node] = scan.whole(value.type) if port in scan.each else value.type
    for node in body:
        reads = all(v.node in types for _, v in body.operands(node))
        if not isinstance(node.op, Input) and reads and (made := _whole(scan, node, types)) is not None:
            types[node.id] = made
    wanted = {node.id for node in body if node.id in types and _is_heavy(body, node)}
    for node in reversed(list(body)):
        if node.id in wanted:
            wanted |= {value.node for _, value in body.operands(node)}
    return [node for node in body if node.id in wanted and not isinstance(node.op, Input)]


def _is_heavy(body: Graph, node: Node) -> bool:
    """Whether an operation multiplies or sums."""
    return not isinstance(node.op, Input) and not node.op.views and bool(node.op.mixes(*body.input_types(node)))


def _whole(scan: Scan, node: Node, types: dict[int, Any]) -> Any:
    """The type that an operation makes for all positions, if these stay apart."""
    body, op = scan.graph, node.op
    if isinstance(op, Call | Foreign | Scan | Kept | Parameter) or op.random or len(node.types) != 1 or op.listed:
        return None
    trial = Graph("trial")
    pairs = [(port, trial.add_input(str(i), types[v.node])) for i, (port, v) in enumerate(body.operands(node))]
    try:
        (made,) = trial.add(op, pairs)
    except OpError:
        return None
    given = trial.input_types(trial.last)
    apart = scan.axis.name not in op.mixes(*given) and not any(p.buffer for p in op.params(*given).values())
    alike = op.params(*given) == op.params(*body.input_types(node))
    same = set(made.type.names) - {scan.axis.name} == set(node.types[0].names)
    return made.type if pairs and apart and alike and same else None


# ---- out of the body
def _put(rebuild: Rebuild, node: Node, free: Sequence[Node], record: Record) -> None:
    """The operations before the scan, which reads what they make."""
    scan: Any = node.op
    given = dict(rebuild.operands(node))
    made = {scan.graph.inputs[port].node: value for port, value in given.items() if port not in scan.carries}
    start = len(rebuild.new)
    for inner in free:
        operands = [(port, made[value.node]) for port, value in scan.graph.operands(inner)]
        made[inner.id] = rebuild.add(inner.op, operands, inner, inner.label)
        if inner.name:
            rebuild.new.rename(made[inner.id], inner.name)
    body, read = _body(scan, {inner.id for inner in free})
    operands = [(port, value) for port, value in given.items() if port in body.inputs]
    operands += [(port, made[old]) for port, old in read.items()]
    each = [port for port, value in operands if port not in scan.carries and scan.axis.name in value.type]
    op = scan.model_copy(update={"graph": body, "each": tuple(each)})
    rebuild.uses.update((value.node, value.output) for _, value in operands)
    rebuild.put(node, rebuild.apply(op, operands, node))
    added = tuple(describe(rebuild.new, rebuild.new.node(i)) for i in range(start, len(rebuild.new)))
    place = (record.stage, "lifted", rebuild.new.name, node.span)
    record.events.append(Event(*place, removed=(describe(rebuild.old, node),), added=added, saved=0))


def _body(scan: Scan, gone: set[int]) -> tuple[Graph, dict[str, int]]:
    """The body without some operations, and the ports under which it reads what they make."""
    old, body = scan.graph, Graph(scan.graph.name, scan.graph.span)
    used = {value.node for node in old if node.id not in gone for _, value in old.operands(node)}
    used |= {value.node for _, value in old.outputs}
    values: dict[int, tuple[Value, ...]] = {}
    read: dict[str, int] = {}
    for port, value in old.inputs.items():
        if port in scan.carries or value.node in used:
            values[value.node] = (body.add_input(port, value.type),)
    for node in old:
        if node.id in gone and node.id in used:
            port = _port(old, body, node)
            values[node.id], read[port] = (body.add_input(port, node.types[0]),), node.id
    for node in old:
        if node.id not in gone and not isinstance(node.op, Input):
            operands = [(port, values[v.node][v.output]) for port, v in old.operands(node)]
            values[node.id] = body.add(node.op, operands, span=node.span, label=node.label, types=node.types)
            for i, value in enumerate(values[node.id]):
                if name := old.name_of(Value(old, node.id, i, node.types[i])):
                    body.rename(value, name)
    body.outputs = [(name, values[value.node][value.output]) for name, value in old.outputs]
    return body, read


def _port(old: Graph, body: Graph, node: Node) -> str:
    """What the body calls a value that comes in."""
    label = (node.label or "").rpartition(".")[2].lstrip("@")
    name = node.name or (label if label.isidentifier() else "") or node.op.name
    taken = {*old.inputs, *body.inputs}
    return next(port for port in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if port not in taken)
