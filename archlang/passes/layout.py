"""How maps lie in memory. Norms and linear layers over channels read the channels of a place side by side, and copy a
map that lies otherwise; a convolution makes its map as it gets one, and a sum as its first term. So an image that is
laid out channels last may spare a copy before many layers.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

from archlang.ir import Call, ChannelsLast, Graph, Node, Rebuild, Value
from archlang.primitive import axes_of
from archlang.rewrite import Record
from archlang.shapes import TensorType
from archlang.sizes import Size, divide, substitute, symbols

Planes: TypeAlias = tuple[bool, ...]  # of values: whether they are maps with a plane for each channel
_SHARE = 3  # a depthwise convolution takes two thirds of the time channels last: as if it copied a third of its map
_FREE = 64  # what is taken for a free size, to compare bytes
_CONVOLUTIONS = ("conv", "depthwise")
_HAND_ON = (
    *(*_CONVOLUTIONS, "batch_norm", "max_pool", "avg_pool", "pad", "add", "sub", "mul", "div", "maximum", "minimum"),
    *("relu", "relu6", "gelu", "gelu_tanh", "silu", "swish", "hard_swish", "sigmoid", "tanh", "layer_scale"),
    *("drop_path", "stochastic_depth", "dropout", "identity"),
)


def channels_last(graph: Graph, record: Record) -> Graph:
    """An image is laid out channels last where this copies less than the layers after it would."""
    ports = [port for port in graph.inputs if _is_read_by_convolutions(graph, port)]
    if not ports:
        return graph
    planes = tuple(port in ports for port in graph.inputs)
    cost = sum((graph.inputs[port].type.bytes for port in ports), start=0)
    spared = copied(graph, planes, {})[0] - copied(graph, (False,) * len(planes), {})[0]
    if _number(spared - cost) <= 0:  # type: ignore[operator]
        return graph
    rebuild = Rebuild(graph)
    for node in graph:
        made = rebuild.copy(node)
        if node.id in {graph.inputs[port].node for port in ports}:
            old = Value(rebuild.new, made.id, 0, made.types[0])
            rebuild.move(old, rebuild.add(ChannelsLast(), [("x", old)], node))
            record.fired("channels_last", rebuild.new, made, [], [rebuild.new.last], spared)
    return rebuild.finish()


def _is_map(type_: TensorType) -> bool:
    return len(type_.of_role("space")) == 2 and "c" in type_


def _is_read_by_convolutions(graph: Graph, port: str) -> bool:
    """Whether an input is [b, c, h, w], and all that reads it are convolutions, here or in blocks."""
    value = graph.inputs[port]
    users = graph.users(value)
    if not _is_map(value.type) or [axis.role for axis in value.type] != ["batch", "channel", "space", "space"]:
        return False
    return bool(users) and all(
        _is_read_by_convolutions(node.op.graph, argument)
        if isinstance(node.op, Call)
        else node.op.name in (*_CONVOLUTIONS, "pad")
        for node, argument in users
    )


def copied(graph: Graph, planes: Planes, known: dict[Any, tuple[Size, Planes]]) -> tuple[Size, Planes]:
    """The bytes of maps that layers copy, given how the inputs lie, and how the outputs do."""
    key = (id(graph), planes)
    if key not in known:
        ports = {value.node: plane for value, plane in zip(graph.inputs.values(), planes, strict=True)}
        whole: Size = 0
        found: dict[tuple[int, int], bool] = {}
        for node in graph:
            given = [found[value.node, value.output] for _, value in graph.operands(node)]
            cost, made = (0, [ports[node.id]]) if node.id in ports else _through(graph, node, given, known)
            whole = whole + cost
            found |= {(node.id, i): plane for i, plane in enumerate(made)}
        known[key] = whole, tuple(found[value.node, value.output] for _, value in graph.outputs)
    return known[key]


def _through(graph: Graph, node: Node, planes: Sequence[bool], known: dict[Any, Any]) -> tuple[Size, Sequence[bool]]:
    """What one operation copies, and how its results lie."""
    op: Any = node.op
    if isinstance(op, Call):
        ports = [argument for argument, _ in graph.operands(node)]
        given = dict(zip(ports, planes, strict=True))
        return copied(op.graph, tuple(given.get(port, False) for port in op.graph.inputs), known)
    maps = [i for i, (_, value) in enumerate(graph.operands(node)) if _is_map(value.type) and planes[i]]
    hands_on = op.name in _HAND_ON and 0 in maps
    return (_cost(graph, node) if maps else 0), [hands_on and _is_map(type_) for type_ in node.types]


def _cost(graph: Graph, node: Node) -> Size:
    """The bytes of its map that a layer copies, which has a plane for each channel."""
    op: Any = node.op
    x = graph.operands(node)[0][1].type
    if op.name == "depthwise" or (op.name == "conv" and op.groups == op.units == x.size("c")):
        return divide(x.bytes, _SHARE)
    over = op.name in ("linear", "layer_norm", "rms_norm") and axes_of(op.on, x) == ("c",)
    return x.bytes if over else 0


def _number(size: Size) -> Size:
    return substitute(size, dict.fromkeys(symbols(size), _FREE))
