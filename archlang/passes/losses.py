"""Auxiliary losses, which training alone reads."""

from archlang.ir import Call, Graph, Node, Rebuild, Value, prune
from archlang.rewrite import Event, Record

Known = dict[tuple[str, int], Graph]


def no_losses(graph: Graph, record: Record) -> Graph:
    """For evaluation: losses are not worked out."""
    if not graph.losses:
        return graph
    made = _copy(graph)
    made.losses = {}
    made = _trimmed(prune(made), {})
    first = graph.producer(next(iter(graph.losses.values()))[0])
    removed = tuple(f"loss {name}" for name in graph.losses)
    record.events.append(Event(record.stage, "no_losses", graph.name, first.span, removed=removed))
    return made


def _copy(graph: Graph) -> Graph:
    """The same graph, which may be changed."""
    rebuild = Rebuild(graph)
    for node in graph:
        rebuild.copy(node)
    return rebuild.finish()


def _trimmed(graph: Graph, known: Known) -> Graph:
    """The graph whose blocks give no results behind the last that is read: losses are behind all others."""
    read = {node.id: count for node in graph if isinstance(node.op, Call) and (count := _read(graph, node))}
    rebuild = Rebuild(graph)
    for node in graph:
        if node.id not in read:
            rebuild.copy(node)
            continue
        body = _first(node.op.graph, read[node.id], known)  # type: ignore[attr-defined]
        op = node.op.model_copy(update={"graph": body})
        rebuild.put(node, rebuild.apply(op, rebuild.operands(node), node))
    return rebuild.finish()


def _read(graph: Graph, call: Node) -> int:
    """How many results of a call there are up to the last that is read."""
    kept = {(value.node, value.output) for value in graph.results()}
    values = [Value(graph, call.id, i, type_) for i, type_ in enumerate(call.types)]
    return max((i + 1 for i, value in enumerate(values) if graph.users(value) or (call.id, i) in kept), default=0)


def _first(body: Graph, count: int, known: Known) -> Graph:
    """A block with its first results alone."""
    if (body.digest, count) not in known:
        made = _copy(body)
        made.outputs = made.outputs[:count]
        known[body.digest, count] = _trimmed(prune(made), known)
    return known[body.digest, count]
