"""Whether a network can go on where the last call stopped, one piece of a sequence after another."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from archlang.diagnostics import Collector, Label, error
from archlang.ir import Call, Graph, Input, Kept, Node, Scan
from archlang.primitive import Primitive
from archlang.shapes import TensorType
from archlang.sizes import Poly, Size, symbol, symbols

METHODS = frozenset("begin carried clock end load_state past reset select state".split())  # of a network that decodes


def clock(graph: Graph) -> str:
    """The free size that counts the positions of time of a model."""
    sizes = {axis.size for value in graph.inputs.values() for axis in value.type if axis.role == "time"}
    return next(name for size in sizes for name in symbols(size))


def check(graph: Graph) -> None:
    """Refuse a model that has no time, or operations along it that carry no state."""
    found = Collector()
    with found.catch():
        _check_inputs(graph)
    found.check()
    time = clock(graph)
    for part in graph.children_first():
        for holder, node in part.deep():
            with found.catch():
                _check_node(holder, node, time)
                _check_place(part, holder, node)
        with found.catch():
            _check_sharing(part)
    for name, value in graph.outputs:
        if grown := sorted(_grown([value.type], time)):
            title = f"the output `{name}` has an axis `{grown[0]}` as long as the sequence"
            found.add(*error("A510", title, Label(graph.producer(value).span, str(value.type))).diagnostics)
    for label in sorted(METHODS & {node.label for node in graph if node.label}):
        node = next(node for node in graph if node.label == label)
        with found.catch():
            raise error("A510", f"`{label}` is a method of a network that decodes", Label(node.span, "named here"))
    found.check()


def _check_inputs(graph: Graph) -> None:
    """One time axis, of a free size, and samples beside it."""
    timed = [(port, value.type) for port, value in graph.inputs.items() if value.type.of_role("time")]
    if not timed:
        help = "name the axis of the sequence `t`, or give it the role: `[b, n: time]`"
        raise error("A510", f"`{graph.name}` has no time axis to decode along", Label(graph.span), help=help)
    sizes = {axis.size: port for port, type_ in timed for axis in type_ if axis.role == "time"}
    names = {name for size in sizes for name in symbols(size)}
    for port, type_ in timed:
        label = Label(_span(graph, port), f"{port}: {type_}")
        if len(sizes) != 1 or len(names) != 1 or sizes.keys() != {symbol(name) for name in names}:
            title = f"`{graph.name}` decodes along one time axis of a free size"
            raise error("A510", title, label, help="leave the size out: `[b, t]`")
        if len(type_.of_role("batch")) != 1:
            raise error("A510", f"`{port}` has no axis of samples beside time", label, help="`[b, t]`")
    for port, value in graph.inputs.items():
        if value.type.dtype == "segments":
            raise error("A510", f"`{graph.name}` decodes one sequence a sample, without documents", _span(graph, port))


def _span(graph: Graph, port: str) -> Any:
    return graph.node(graph.inputs[port].node).span


# ---- operations
def _check_node(graph: Graph, node: Node, time: str) -> None:
    """Refuse an operation that sees several positions and carries nothing, or that counts them."""
    op, types = node.op, graph.input_types(node)
    if isinstance(op, Call | Input | Kept):
        return
    axes = {axis.name for type_ in _each(types) for axis in type_ if axis.role == "time"}
    mixed = sorted(op.mixes(*types) & axes)
    if mixed and not (op.resumes(*types) or isinstance(op, Scan)):
        title = f"`{op.name}` carries no state along the time axis `{mixed[0]}`"
        raise error(
            "A510", title, Label(node.span, f"it is `{op}`"), help="a network for inference sees the sequence whole"
        )
    counted = not mixed and time in _counted(op, node, types) and not op.resumes(*types)
    if counted or op.mixes(*types) & _grown(_each(types), time):
        title = f"`{op.name}` depends on how long the sequence is"
        raise error("A510", title, Label(node.span, f"it is `{op}`"))
    states = op.state(*types).values() if mixed else ()
    if any(not state.of_role("batch") or (isinstance(op, Scan) and state.axes[0].role != "batch") for state in states):
        title = f"`{op.name}` carries a state whose first axis is not that of the samples"
        raise error("A510", title, Label(node.span, f"it is `{op}`"), help="`carry S: [b, ..]`")


def _check_place(part: Graph, holder: Graph, node: Node) -> None:
    """Refuse a state inside of a scan: it would be one for all rounds."""
    inside = holder is not part and not isinstance(node.op, Kept)
    if inside and _carries(holder, node):
        raise error("A510", f"`{node.op.name}` carries a state along time inside a scan", Label(node.span, "here"))


def _each(types: Any) -> Iterator[TensorType]:
    for item in types:
        yield from item if isinstance(item, tuple) else () if item is None else (item,)


def _counted(op: Primitive, node: Node, types: Any) -> set[str]:
    """The free sizes that the numbers of an operation are made of, and the new axes that it makes."""
    known = {axis.name for type_ in _each(types) for axis in type_}
    made = [axis.size for type_ in node.types for axis in type_ if axis.name not in known]
    return {name for size in (*made, *(size for _, value in op for size in _sizes(value))) for name in symbols(size)}


def _grown(types: Iterable[TensorType], time: str) -> set[str]:
    """The axes beside time that are as long as the sequence so far, as those of a bias over queries and keys."""
    return {axis.name for type_ in types for axis in type_ if axis.role != "time" and time in symbols(axis.size)}


def _sizes(value: Any) -> Iterator[Size]:
    if isinstance(value, Poly):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _sizes(item)


# ---- blocks
def _check_sharing(graph: Graph) -> None:
    """Refuse a block that carries a state and is called at several places: it would hold one state for all."""
    carrying = [n for _, n in graph.deep() if isinstance(n.op, Call) and carries(n.op.graph)]
    times = Counter(node.label for node in carrying)
    lent = {label for _, node in graph.deep() if isinstance(node.op, Call) for _, label in node.op.layers}
    for node in carrying:
        label = node.label or ""
        if times[node.label] > 1 or label.startswith("@") or label in lent:
            title = f"`{label.lstrip('@')}` carries a state along time, and is called at several places"
            help = "each place needs a state of its own: let every place have a layer of its own"
            raise error("A510", title, Label(node.span, "called here"), help=help)


def carries(graph: Graph) -> bool:
    """Whether anything in a graph carries a state."""
    return any(_carries(holder, node) for holder, node in graph.deep() if not isinstance(node.op, Kept))


def _carries(holder: Graph, node: Node) -> bool:
    if isinstance(node.op, Call):
        return carries(node.op.graph)
    return bool(node.op.state(*holder.input_types(node)))
