"""Experts that are alike, all at once: their tokens stay in one tensor, sorted by expert, and each of their linear
layers is one product of all experts. Nothing asks the device how many tokens an expert has.
"""

from dataclasses import dataclass
from typing import Any

from archlang.ir import Call, Graph, Input, Kept, Node, Rebuild, Value, WeightOf
from archlang.primitives.grouped import ChosenRows, GroupedLinear, SortedChoices
from archlang.primitives.linear import contracted
from archlang.primitives.mixture import Combine, Dispatch
from archlang.rewrite import Event, Record, describe, everywhere
from archlang.shapes import TensorType, axis


def grouped_experts(graph: Graph, record: Record) -> Graph:
    """combine(f_e(dispatch(x)_e)) = combine(f(x at sorted choices)), where all f_e are linear layers and pointwise."""
    return everywhere(graph, lambda part: _grouped(part, record))


def _grouped(graph: Graph, record: Record) -> Graph:
    found = {node.id: calls for node in graph if (calls := _experts(graph, node))}
    for place, (call, *_) in list(found.items()):
        if not _is_plain(_body(call)):
            record.refused("grouped_experts", graph, call, "the layers of an expert are more than linear and pointwise")
            del found[place]
    if not found:
        return graph
    gone = {call.id for calls in found.values() for call in calls}
    gone |= {graph.producer(graph.operands(calls[0])[0][1]).id for calls in found.values()}
    rebuild = Rebuild(graph)
    for node in graph:
        if node.id in found:
            start = len(rebuild.new)
            rebuild.put(node, [_together(rebuild, node, found[node.id])])
            came = [made for made in list(rebuild.new)[start:] if not isinstance(made.op, WeightOf)]
            added = tuple(describe(rebuild.new, new) for new in came if new.types)
            record.events.append(Event(record.stage, "grouped_experts", graph.name, node.span, added=added))
        elif node.id not in gone:
            rebuild.copy(node)
    return rebuild.finish()


def _experts(graph: Graph, node: Node) -> list[Node]:
    """The calls whose results a node combines, if they are of blocks that are alike and of nothing but layers."""
    if not isinstance(node.op, Combine):
        return []
    (_, _), (_, order), *parts = graph.operands(node)
    source, calls = graph.producer(order), [graph.producer(value) for _, value in parts]
    if not isinstance(source.op, Dispatch) or len(graph.users(order)) != 1:
        return []
    for place, call in enumerate(calls):
        if not isinstance(call.op, Call) or call.op.layers or (call.label or "@").startswith("@"):
            return []
        given = [value for _, value in graph.operands(call)]
        if given != [Value(graph, source.id, place, source.types[place])] or len(graph.users(given[0])) != 1:
            return []
        if _body(call).digest != _body(calls[0]).digest or len(graph.users(parts[place][1])) != 1:
            return []
    kept = {(value.node, value.output) for _, value in graph.outputs}
    if kept & {(value.node, value.output) for _, value in parts}:
        return []
    return calls


def _body(call: Node) -> Graph:
    """The block that is called."""
    op: Any = call.op
    graph: Graph = op.graph
    return graph


def _is_plain(body: Graph) -> bool:
    """Whether a block is of linear layers and pointwise operations on rows, and makes 0 where its last layer does."""
    nodes = list(body)
    if body.losses or body.layers or len(body.inputs) != 1 or len(body.outputs) != 1:
        return False
    last = body.producer(body.outputs[0][1])
    while last.op.name == "dropout":
        last = body.producer(body.operands(last)[0][1])
    if not _is_layer(body, last):
        return False
    return all(isinstance(node.op, Input) or _is_layer(body, node) or _is_pointwise(body, node) for node in nodes)


def _is_layer(body: Graph, node: Node) -> bool:
    op: Any = node.op
    given = body.operands(node)
    own = op.name == "linear" and len(given) == 1 and not (node.label or "@").startswith("@")
    return own and contracted(op.on, given[0][1].type) == ("c",)


def _is_pointwise(body: Graph, node: Node) -> bool:
    types = body.input_types(node)
    if node.label or isinstance(node.op, Call | Kept | WeightOf) or not types or len(node.types) != 1:
        return False
    return "b" in node.types[0] and "b" not in node.op.mixes(*types)


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokens, the axes that count them, and the sorted choices that make rows of them."""

    x: Value
    ends: Value
    order: Value
    tokens: tuple[str, ...]


def _together(rebuild: Rebuild, node: Node, calls: list[Node]) -> Value:
    """What the experts make of all rows, combined."""
    graph, body = rebuild.old, _body(calls[0])
    (_, weight), (_, order), *_ = graph.operands(node)
    source: Any = graph.producer(order)
    (_, tokens), (_, index) = rebuild.operands(source)
    sort = rebuild.add(SortedChoices(experts=source.op.experts, on=source.op.on), [("index", index)], node)
    ends, places = (Value(rebuild.new, sort.node, i, t) for i, t in enumerate(rebuild.new.producer(sort).types))
    for value, name in ((ends, "ends"), (places, "order")):
        rebuild.new.rename(value, name)
    rows = Rows(tokens, ends, places, source.op.tokens(index.type))
    made: dict[tuple[int, int], Value] = {}
    for inner in body:
        if isinstance(inner.op, Input):
            if not all(_is_layer(body, user) for user, _ in body.users(body.inputs[inner.op.port])):
                chosen = ChosenRows(tokens=rows.tokens)
                made[inner.id, 0] = rebuild.add(chosen, [("x", tokens), ("order", places)], node)
            continue
        given = body.operands(inner)
        if _is_layer(body, inner):
            x = made.get((given[0][1].node, given[0][1].output))
            made[inner.id, 0] = _layer(rebuild, body, inner, calls, x, rows)
        else:
            read = [(port, made[value.node, value.output]) for port, value in given]
            made[inner.id, 0] = rebuild.add(inner.op, read, inner)
    for call in calls:
        rebuild.new.add(Kept(op=Call(graph=_holder(body)), given=(), types=()), span=call.span, label=call.label)
    result = made[body.outputs[0][1].node, 0]
    return rebuild.add(node.op, [("weight", rebuild.value(weight)), ("order", places), ("parts.0", result)], node)


def _layer(rebuild: Rebuild, body: Graph, layer: Node, calls: list[Node], x: Value | None, rows: Rows) -> Value:
    """One linear layer of all experts, of what is made of the rows or of the tokens themselves."""
    op: Any = layer.op
    weights = []
    for leaf, param in body.params(layer).items():
        axes = tuple(axis(name, size) for name, size in zip(param.names, param.shape, strict=True))
        for call in calls:
            read = WeightOf(leaf=f"{layer.label}.{leaf}", type=TensorType(axes, param.dtype))
            weights.append(rebuild.add(read, (), layer, call.label))
    made = op.made(body.input_types(layer)[0])
    given = [("x", x or rows.x), ("ends", rows.ends), *([] if x else [("order", rows.order)])]
    given += [(f"weights.{i}", weight) for i, weight in enumerate(weights)]
    return rebuild.add(GroupedLinear(made=made, bias=op.bias, tokens=() if x else rows.tokens), given, layer)


def _holder(body: Graph) -> Graph:
    """The layers of a block without what it does."""
    made = body.blank()
    for node in body:
        if _is_layer(body, node):
            held = Kept(op=node.op, given=tuple(body.input_types(node)), types=node.types)
            made.add(held, span=node.span, label=node.label)
    return made
