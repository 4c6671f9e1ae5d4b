"""Layers beside each other: several that are linear in one value, as one product of matrices.

What it spares is reading the value again, and a call. In training it costs that the weights are joined in every step;
for inference they are joined once. So it is done in training for long inputs of small layers, and for inference where
the layers together are not so wide that each keeps the machine busy by itself.
"""

from collections.abc import Sequence
from typing import Any

from archlang.analysis.cost import amount
from archlang.ir import Graph, Node, Rebuild, Value, WeightOf
from archlang.primitive import AxisMap
from archlang.rewrite import Event, Match, Record, describe, everywhere
from archlang.shapes import BYTES, Axis, TensorType, axis, default_role
from archlang.sizes import Size, product, substitute, total

WIDE = 2048  # units: one product of more is no faster than several (1.08 times as fast at 1536, 0.9 times at 2752)
_LONG = 32  # letters, of a name that joins those of several layers
_JOINING = 3  # times that weights are moved to join them: read, written, and read again


def parallel_projections(graph: Graph, record: Record) -> Graph:
    """W1 x, W2 x = [W1, W2] x, in parts."""
    return everywhere(graph, lambda part: _merged(part, record))


def _merged(graph: Graph, record: Record) -> Graph:
    groups = [nodes for nodes in _groups(graph) if _pays(graph, nodes, record)]
    if not groups:
        return graph
    first = {nodes[0].id: nodes for nodes in groups}
    rebuild, parts = Rebuild(graph), dict[int, Value]()
    for node in graph:
        if nodes := first.get(node.id):
            x = graph.operands(node)[0][1]
            m, start = Match(rebuild, {}, node), len(rebuild.new)
            outputs = _together(m, nodes, rebuild.value(x))
            parts |= {member.id: value for member, value in zip(nodes, outputs, strict=True)}
            gone = tuple(describe(graph, member) for member in nodes)
            came = [m.graph.node(i) for i in range(start, len(m.graph)) if m.graph.node(i).op.name != "weight_of"]
            _note(record, m, gone, tuple(describe(m.graph, made) for made in came), x.type.bytes * (len(nodes) - 1))
        copy = rebuild.copy(node)
        if node.id in parts:
            rebuild.move(Value(rebuild.new, copy.id, 0, copy.types[0]), parts[node.id])
    return rebuild.finish()


def _note(record: Record, m: Match, gone: tuple[str, ...], came: tuple[str, ...], spared: Size) -> None:
    place = (record.stage, "parallel_projections", m.graph.name, m.root.span)
    record.events.append(Event(*place, removed=gone, added=came, saved=spared))


def _groups(graph: Graph) -> list[list[Node]]:
    """Layers with weights of their own that are linear in one value in the same way, two or more."""
    found: dict[Any, dict[str, Node]] = {}
    for node in graph:
        if (key := _key(graph, node)) is not None and node.label:
            found.setdefault(key, {}).setdefault(node.label, node)
    return [list(nodes.values()) for nodes in found.values() if len(nodes) > 1]


def _key(graph: Graph, node: Node) -> Any:
    """Layers with equal keys can be one."""
    op: Any = node.op
    operands = graph.operands(node)
    if op.name not in ("linear", "conv") or len(operands) != 1 or (node.label or "@").startswith("@"):
        return None
    x = operands[0][1]
    if op.name == "linear":
        made = op.made(x.type)
        if not made or any(a.role != default_role(a.name) for a in made) or "units" in x.type:
            return None
        return "linear", x, op.bias, op.on
    if op.groups != 1:
        return None
    kept = {name: value for name, value in op if name not in ("units", "init", "init_bias")}
    return "conv", x, str(kept)


def _pays(graph: Graph, nodes: Sequence[Node], record: Record) -> bool:
    """Whether to merge them; says why not."""
    x = graph.operands(nodes[0])[0][1].type
    if reason := _too_wide(nodes, x) if record.evaluates else _too_heavy(nodes, x):
        record.refused("parallel_projections", graph, nodes[0], reason)
    return not reason


def _too_wide(nodes: Sequence[Node], x: TensorType) -> str:
    units = total(_param(node, x, "weight").shape[0] for node in nodes)
    if isinstance(units, int) and units <= WIDE:
        return ""
    return f"together they have {units} units, and a product of more than {WIDE} gains nothing"


def _too_heavy(nodes: Sequence[Node], x: TensorType) -> str:
    spared = substitute(x.bytes, {"b": 1}) * (len(nodes) - 1)
    joined = total(product(_param(node, x, "weight").shape) * BYTES.get(x.dtype, 4) for node in nodes) * _JOINING
    if isinstance(spared, int) and isinstance(joined, int) and spared > joined:
        return ""
    return f"to join the weights moves {amount(joined)} bytes a step, and spares {amount(spared)} bytes a sample"


def _param(node: Node, x: TensorType, leaf: str) -> Any:
    return node.op.params(x)[leaf]


def _together(m: Match, nodes: Sequence[Node], x: Value) -> list[Value]:
    """What each layer makes, from one that has the weights of all."""
    op: Any = nodes[0].op
    weight = _joined(m, nodes, x.type, "weight")
    offset = _joined(m, nodes, x.type, "bias") if op.bias else None
    sizes = [_param(node, x.type, "weight").shape[0] for node in nodes]
    units: Any = total(sizes)
    on = "c"
    if op.name == "linear":
        on, units = "units", (Axis("units", units, "free"),)
    whole = m.add(op.model_copy(update={"units": units, "bias": False}), None, None, x=x, weight=weight, offset=offset)
    cut = m.graph.producer(m.call("split", m.call_it(whole, _called(*nodes)), parts=tuple(sizes), on=(on,)))
    parts = [m.call_it(m.result(cut, i), _called(node)) for i, node in enumerate(nodes)]
    return parts if op.name == "conv" else [_as_made(m, y, n, x.type) for y, n in zip(parts, nodes, strict=True)]


def _joined(m: Match, nodes: Sequence[Node], x: TensorType, leaf: str) -> Value:
    """The weights of the layers, one below the other."""
    values = []
    for node in nodes:
        param = _param(node, x, leaf)
        axes = tuple(axis(name, size) for name, size in zip(param.names, param.shape, strict=True))
        values.append(m.add(WeightOf(leaf=leaf, type=TensorType(axes, param.dtype)), node, node.label))
    return m.call_it(m.call("concat", *values, on=("units",)), f"{_called(*nodes)}_{leaf}")


def _called(*nodes: Node) -> str:
    """`q_k_v`, what layers make; where that is long, the word that their names begin with."""
    labels = [str(node.label).replace(".", "_") for node in nodes]
    first, whole = labels[0].partition("_")[0], "_".join(labels)
    short = first if all(label.startswith(first) for label in labels) else "together"
    return whole if len(whole) <= _LONG else short


def _as_made(m: Match, units: Value, node: Node, x: TensorType) -> Value:
    """Units as the axes that a layer makes of them."""
    made: Any = node.op.made(x)  # type: ignore[attr-defined]
    if len(made) == 1:
        return m.call("rename", units, names={"units": made[0].name})
    sizes = AxisMap(tuple((a.name, a.size) for a in made))
    return m.call("rearrange", units, pattern=f"units -> {' '.join(a.name for a in made)}", sizes=sizes)
