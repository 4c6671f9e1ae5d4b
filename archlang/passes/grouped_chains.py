"""Layers of experts and what follows them on single elements, as one: what is hidden is written once."""

from typing import Any

from archlang.ir import Chain, Graph, Node, Rebuild, Value
from archlang.ir.grouped_chain import GroupedChain
from archlang.passes.chains import NORMS, fits
from archlang.primitives.grouped import GroupedLinear
from archlang.rewrite import Event, Record, describe, everywhere
from archlang.sizes import total

MOST = 2  # layers whose products a program holds in registers


def grouped_chains(graph: Graph, record: Record) -> Graph:
    """f(grouped_linear(x), ..) in one step, where f is of single elements."""
    return everywhere(graph, lambda part: _fused(part, record))


def _fused(graph: Graph, record: Record) -> Graph:
    found = {node.id: layers for node in graph if (layers := _layers(graph, node))}
    if not found:
        return graph
    rebuild, gone = Rebuild(graph), {layer.id for layers in found.values() for layer in layers}
    for node in graph:
        if node.id in found:
            _put(rebuild, node, found[node.id], record)
        elif node.id not in gone:
            rebuild.copy(node)
    return rebuild.finish()


def _layers(graph: Graph, node: Node) -> list[Node]:
    """The layers that a chain, or a single operation, takes in; none where it reads anything else."""
    if not _is_elementwise(graph, node):
        return []
    given = {(value.node, value.output): value for _, value in graph.operands(node)}
    layers = [graph.producer(value) for value in given.values()]
    if not layers or len(layers) > MOST or any(not isinstance(layer.op, GroupedLinear) for layer in layers):
        return []
    first, rows = layers[0], _rows(graph, layers[0])
    alike = all(layer.op == first.op and _rows(graph, layer) == rows for layer in layers)
    kept = {(value.node, value.output) for value in graph.results()}
    own = all(user.id == node.id for value in given.values() for user, _ in graph.users(value))
    return layers if alike and own and not kept & set(given) else []


def _is_elementwise(graph: Graph, node: Node) -> bool:
    if isinstance(node.op, Chain):
        return not node.op.axis and len(node.types) == 1
    return node.op.name not in NORMS and fits(graph, node) and not node.op.params(*graph.input_types(node))


def _rows(graph: Graph, layer: Node) -> list[tuple[str, int, int]]:
    """What a layer reads besides its weights."""
    given = graph.operands(layer)
    return [(port, value.node, value.output) for port, value in given if not port.startswith("weights.")]


def _put(rebuild: Rebuild, node: Node, layers: list[Node], record: Record) -> None:
    """The layers and the chain in the place of the chain."""
    graph = rebuild.old
    operands = [(port, value) for port, value in rebuild.operands(layers[0]) if not port.startswith("weights.")]
    weights = [value for layer in layers for port, value in rebuild.operands(layer) if port.startswith("weights.")]
    operands += [(f"weights.{i}", weight) for i, weight in enumerate(weights)]
    body, made_of = _body(graph, node)
    layer: Any = layers[0].op
    op = GroupedChain(graph=body, made_of=made_of, layer=layer, layers=tuple(_name(graph, x) for x in layers))
    value = rebuild.add(op, operands, node)
    rebuild.put(node, [value])
    removed = tuple(describe(graph, old) for old in (*layers, node))
    added = (describe(rebuild.new, rebuild.new.node(value.node)),)
    saved = total(layer.types[0].bytes for layer in layers)
    place = (record.stage, "grouped_chains", graph.name, node.span)
    record.events.append(Event(*place, removed=removed, added=added, saved=saved))


def _body(graph: Graph, node: Node) -> tuple[Graph, tuple[str, ...]]:
    """A chain as a graph, or a single operation as one, and what it is made of."""
    if isinstance(node.op, Chain):
        return node.op.graph, node.op.made_of
    body, values = Graph("chain"), dict[tuple[int, int], Value]()
    for _, value in graph.operands(node):
        if (value.node, value.output) not in values:
            values[value.node, value.output] = body.add_input(f"x{len(values)}", value.type)
    given = [(port, values[value.node, value.output]) for port, value in graph.operands(node)]
    body.outputs = [("", body.add(node.op, given, types=node.types)[0])]
    return body, (node.op.name,)


def _name(graph: Graph, layer: Node) -> str:
    """What the source calls a layer, of the weights that it reads."""
    read: Any = next(graph.producer(value).op for port, value in graph.operands(layer) if port == "weights.0")
    name: str = read.leaf.split(".")[-2]
    return name
