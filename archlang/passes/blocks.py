"""Blocks that are linear in their input, opened: their operations stand in the caller, where rules see them beside
others. The block stays to hold its weights.
"""

from archlang.ir import Call, Graph, Input, Kept, Node, Parameter, Rebuild, Value, WeightOf
from archlang.passes.affine import LINEAR, replaced, scaling, weights
from archlang.primitive import Primitive
from archlang.rewrite import Match

_LAYERS = frozenset(LINEAR.split())
_PLAIN = frozenset("add sub mul neg identity rename arrange".split())  # linear too, with no weights


def opened(graph: Graph) -> Graph:
    """The graph with all calls of such blocks opened; itself where there are none."""
    if not any(_opens(node) for node in graph):
        return graph
    rebuild = Rebuild(graph)
    for node in graph:
        if isinstance(node.op, Call) and _opens(node):
            _open(rebuild, node, _explicit(node.op.graph))
        else:
            rebuild.copy(node)
    return rebuild.finish()


def _opens(node: Node) -> bool:
    """Whether a node calls a block all of whose operations are linear in what it is given."""
    if not isinstance(node.op, Call) or node.op.layers or not node.label or node.label.startswith("@"):
        return False
    body: Graph = node.op.graph
    if body.losses or body.layers or not any(True for _ in body.makers()):
        return False
    return all(_is_linear(body, inner) for inner in body)


def _is_layer(node: Node) -> bool:
    return node.op.name in _LAYERS or node.op.name == "batch_norm"


def _is_linear(body: Graph, node: Node) -> bool:
    if (node.label or "").startswith("@") or (isinstance(node.op, Parameter) and node.op.buffer):
        return False
    if _is_layer(node) or isinstance(node.op, Input | Kept | Parameter | WeightOf):
        return True
    dynamic = {inner.id for inner in body if isinstance(inner.op, Input)}
    for inner in body:
        if any(value.node in dynamic for _, value in body.operands(inner)):
            dynamic.add(inner.id)
    return node.label is None and not isinstance(node.op, Call) and (node.id not in dynamic or node.op.name in _PLAIN)


def _explicit(body: Graph) -> Graph:
    """The block with the weights of its layers as values."""
    rebuild = Rebuild(body)
    for node in body:
        made = rebuild.copy(node)
        if _is_layer(made) and rebuild.new.params(made):
            m = Match(rebuild, {}, made)
            rebuild.move(m.result(made), _written_out(m, made))
    return rebuild.finish()


def _written_out(m: Match, node: Node) -> Value:
    if node.op.name in _LAYERS:
        return replaced(m, node, *weights(m, node))
    scale, shift = scaling(m, node, node.op.on)  # type: ignore[attr-defined]
    x = m.operand(node, "x")
    assert x is not None
    return m.call("add", m.call("mul", x, scale), shift)


def _open(rebuild: Rebuild, call: Node, body: Graph) -> None:
    """Put what a block does in the place of the call."""
    assert isinstance(call.op, Call)
    given, made = dict(rebuild.operands(call)), dict[tuple[int, int], Value]()
    for node in body:
        if isinstance(node.op, Input):
            made[node.id, 0] = given[node.op.port]
        elif not isinstance(node.op, Kept):
            op = _from_outside(node)
            operands = [(argument, made[value.node, value.output]) for argument, value in body.operands(node)]
            made[node.id, 0] = rebuild.add(op, operands, node, call.label if isinstance(op, WeightOf) else None)
            if node.name:
                own = node.name.endswith(("_weight", "_bias"))
                name = f"{str(call.label).replace('.', '_')}_{node.name}" if own else node.name
                rebuild.new.rename(made[node.id, 0], name)
    rebuild.put(call, [made[value.node, value.output] for _, value in body.outputs])
    held = Kept(op=Call(graph=_holder(body)), given=(), types=())
    rebuild.new.add(held, span=call.span, label=call.label)


def _from_outside(node: Node) -> Primitive:
    """A weight of a block as its caller reads it."""
    if isinstance(node.op, Parameter):
        return WeightOf(leaf=str(node.label), type=node.op.type)
    if isinstance(node.op, WeightOf):
        return WeightOf(leaf=f"{node.label}.{node.op.leaf}", type=node.op.type)
    return node.op


def _holder(body: Graph) -> Graph:
    """The block without what it does."""
    made = body.blank()
    for node in body:
        if isinstance(node.op, Kept | Parameter):
            made.add(node.op, span=node.span, label=node.label)
    return made
