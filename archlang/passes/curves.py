"""Sums of functions of a basis, as one operation each: the values of the functions are nowhere in memory."""

from typing import Any

from archlang.ir import Call, Graph, Node, Rebuild, Value, WeightOf, kept
from archlang.primitives.basis_linear import BasisCurve, BasisLinear
from archlang.primitives.kan import TERM, Basis, BSpline
from archlang.primitives.linear import Dot, Linear, contracted
from archlang.rewrite import Record, everywhere
from archlang.shapes import TensorType, axis

HIGHEST = 5  # degree of splines, whose recursion is written out


def fused_curves(graph: Graph, record: Record) -> Graph:
    """linear(basis(x)) = basis_linear(x), dot(basis(x), weight) = basis_curve(x)"""
    return everywhere(graph, lambda part: _fused(part, record))


def _fused(graph: Graph, record: Record) -> Graph:
    found: dict[int, Node] = {}  # where values of a basis come from, by the layer that reads them
    for node in graph:
        if not isinstance(node.op, Linear | Dot) or (source := _source(graph, node)) is None:
            continue
        if reason := _refusal(graph, node, source):
            record.refused("fused_curves", graph, node, reason)
        else:
            found[node.id] = source
    if not found:
        return graph
    rebuild, sources = Rebuild(graph), {source.id for source in found.values()}
    for node in graph:
        if node.id in found:
            start = len(rebuild.new)
            rebuild.put(node, [_together(rebuild, node, found[node.id])])
            came = [made for made in list(rebuild.new)[start:] if isinstance(made.op, BasisLinear | BasisCurve)]
            record.fired("fused_curves", rebuild.new, node, (), came, spared=found[node.id].types[0].bytes)
        elif node.id not in sources:
            rebuild.copy(node)
        elif isinstance(node.op, Call):
            rebuild.copy(node, node.op.model_copy(update={"graph": _before(node.op.graph)}))
        elif node.label:
            rebuild.new.add(kept(graph, node), span=node.span, label=node.label)
    return rebuild.finish()


def _source(graph: Graph, node: Node) -> Node | None:
    """The basis whose values are summed, or the block that ends in one."""
    source = graph.producer(graph.operands(node)[0][1])
    return source if _basis(source) is not None else None


def _basis(node: Node) -> Basis | None:
    """The basis at a node, or at the end of the block that it calls."""
    if isinstance(node.op, Call) and len(node.op.graph.outputs) == 1:
        return _basis(node.op.graph.producer(node.op.graph.outputs[0][1]))
    return node.op if isinstance(node.op, Basis) else None


def _refusal(graph: Graph, node: Node, source: Node) -> str:
    """Why the values of a basis stay, if so."""
    op: Any = node.op
    value, basis = Value(graph, source.id, 0, source.types[0]), _basis(source)
    if len(graph.users(value)) != 1 or value in graph.results():
        return "the values of the functions are read elsewhere too"
    if isinstance(op, Dot):
        weight = graph.operands(node)[1][1].type
        if contracted(op.on, value.type) != (TERM,) or set(weight.names) != {"c", TERM}:
            return "the curves are not one for each channel"
    elif contracted(op.on, value.type) != ("c", TERM):
        return "the layer sums over other axes than the channels and their functions"
    if any((n.label or "").startswith("@") for n in (node, source)):
        return "the layer is another block's"
    if isinstance(basis, BSpline) and (isinstance(source.op, Call) or basis.order > HIGHEST):
        return f"the knots are another block's, or the degree is above {HIGHEST}"
    return ""


def _before(block: Graph) -> Graph:
    """A block without the basis at its end."""
    last = block.producer(block.outputs[0][1])
    rebuild = Rebuild(block)
    for node in block:
        if node is not last:
            rebuild.copy(node)
        elif isinstance(node.op, Call):
            rebuild.copy(node, node.op.model_copy(update={"graph": _before(node.op.graph)}))
        else:
            rebuild.put(node, [rebuild.value(block.operands(node)[0][1])])
    return rebuild.finish()


def _together(rebuild: Rebuild, node: Node, source: Node) -> Value:
    """The layer and its basis as one operation."""
    op: Any = node.op
    given, basis = dict(rebuild.old.operands(node)), _basis(source)
    assert basis is not None
    x = rebuild.old.operands(node if isinstance(source.op, Call) else source)[0][1]
    knots = [("knots", _weight(rebuild, source, "grid"))] if isinstance(basis, BSpline) else []
    operands = [("x", rebuild.value(x)), *knots]
    if isinstance(op, Dot):
        return rebuild.add(BasisCurve(basis=basis), [*operands, ("weight", rebuild.value(given["b"]))], node)
    own = {leaf: _weight(rebuild, node, leaf) for leaf in rebuild.old.params(node)}
    if own:
        rebuild.new.add(kept(rebuild.old, node), span=node.span, label=node.label)
    operands.append(("weight", rebuild.value(given["weight"]) if "weight" in given else own["weight"]))
    if "offset" in given or "bias" in own:
        operands.append(("offset", rebuild.value(given["offset"]) if "offset" in given else own["bias"]))
    return rebuild.add(BasisLinear(basis=basis, linear=op), operands, node)


def _weight(rebuild: Rebuild, node: Node, leaf: str) -> Value:
    """A weight of a layer as a tensor."""
    param = rebuild.old.params(node)[leaf]
    axes = tuple(axis(name, size) for name, size in zip(param.names, param.shape, strict=True))
    return rebuild.add(WeightOf(leaf=leaf, type=TensorType(axes)), (), node, node.label)
