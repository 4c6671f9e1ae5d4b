"""Scans with sums, norms and products inside, as one kernel each: which of them, and their bodies without weights."""

from typing import Any

from archlang.ir import Graph, Input, Node, NoLayoutError, Rebuild, TiledScan, Value, kept
from archlang.passes.chains import NORMS, SINGLE, Body, fits
from archlang.primitive import Param, axes_of
from archlang.primitives import CONSTRUCTS
from archlang.sizes import Poly

OVER = NORMS | frozenset("sum mean var norm max min".split())
PRODUCTS = frozenset("dot linear".split())
UNITS = "units"  # what a layer makes, before it has the name of what it took
MOST = 96  # operations of a body
MOST_INPUTS = 20
MOST_NUMBERS = 18432  # of what is the same at all positions, and of carries, their next values and their slopes


def sums(scan: TiledScan | Any) -> bool:
    """Whether anything in a scan meets others along an axis."""
    return any(node.op.name in OVER | PRODUCTS for node in scan.graph)


# ---- which scans
def tiled_refusal(scan: TiledScan) -> str:
    """Why no kernel takes a scan, if so."""
    graph = scan.graph
    for node in graph:
        if isinstance(node.op, Input) and node.types[0].dtype != "float":
            return f"`{node.op.port}` is {node.types[0].dtype}"
        if not isinstance(node.op, Input) and not _fits(graph, node):
            return f"`{node.label or node.op.name}` is nothing that a kernel does with tiles of float"
    ends = [value for _, value in graph.outputs]
    if any(not graph.users(value) and value not in ends for value in graph.inputs.values()):
        return "it carries what nothing reads"
    if not scan.each:
        return "nothing that it reads has its axis"
    rebuild = Rebuild(graph)
    return _layout_refusal(opened(rebuild, None, scan, [])[0])


def _fits(graph: Graph, node: Node) -> bool:
    """Whether a kernel can hold an operation."""
    op: Any = node.op
    types = graph.input_types(node)
    if op.name in SINGLE | NORMS:
        return fits(graph, node)
    if op.name == "rename":
        return True
    if op.name not in OVER | PRODUCTS or any(x is not None and x.dtype != "float" for x in types):
        return False
    on = axes_of(op.on, types[0])
    if op.name == "linear":
        plain = all(x is None for x in types[1:]) and not (node.label or "@").startswith("@")
        return plain and len(on) == 1 and len(op.made(types[0])) == 1
    return op.name in ("dot", "sum") or (len(on) == 1 and getattr(op, "p", 2) == 2)


def _layout_refusal(scan: TiledScan) -> str:
    """Why a program cannot hold what a scan carries, if so."""
    try:
        layout = scan.layout
    except NoLayoutError as reason:
        return str(reason)
    graph, sizes = scan.graph, dict[str, Any]()
    for type_ in (type_ for node in graph for type_ in node.types):
        for axis in type_:
            if sizes.setdefault(axis.name, axis.size) != axis.size:
                return f"`{axis.name}` has two sizes in it: {sizes[axis.name]} and {axis.size}"
    if free := [name for name in layout.lanes if isinstance(sizes[name], Poly)]:
        return f"a program holds all of `{free[0]}`, whose size is free"
    known = {name for port in scan.given for name in graph.inputs[port].type.names}
    if unknown := [name for name in (*layout.outer, *layout.lanes) if name not in known]:
        return f"nothing that it reads has `{unknown[0]}`"
    if any(name not in value.type for _, value in graph.outputs for name in layout.outer):
        return "not all that it carries and yields has the same axes"
    return _too_large(scan)


def _too_large(scan: TiledScan) -> str:
    if len(scan.operations) > MOST or len(scan.graph.inputs) > MOST_INPUTS:
        return f"more than {MOST} operations or {MOST_INPUTS} inputs fit no registers"
    numbers = sum(map(scan.numbers, scan.fixed)) + 3 * sum(map(scan.numbers, scan.carries))
    return f"{numbers:,} numbers fit no registers, which hold {MOST_NUMBERS:,}" if numbers > MOST_NUMBERS else ""


# ---- without weights
class _Opened(Body):
    """The body of a scan: layers become products with weights that it is given."""

    def __init__(self, rebuild: Rebuild, scan: TiledScan) -> None:
        super().__init__(rebuild, scan.graph)
        self.graph = Graph("scan")
        for port, value in scan.graph.inputs.items():
            self.values[value.node, value.output] = self.graph.add_input(port, value.type)

    def add(self, node: Node) -> None:
        if node.op.name != "linear":
            super().add(node)
            return
        ((_, old),) = self._old.operands(node)
        op: Any = node.op
        x, (on,), (made,) = self.values[old.node, old.output], axes_of(op.on, old.type), op.made(old.type)
        params = self._old.params(node)
        units = UNITS if made.name in old.type else made.name
        weight = self.weight(node, "weight", Param(params["weight"].shape, (units, on)))
        (y,) = self.graph.add(CONSTRUCTS["dot"](on=(on,)), [("a", x), ("b", weight)])  # type: ignore[call-arg, arg-type]
        if "bias" in params:
            bias = self.weight(node, "bias", Param(params["bias"].shape, (units,)))
            (y,) = self.graph.add(CONSTRUCTS["add"](), [("a", y), ("b", bias)])  # type: ignore[arg-type]
        if units != made.name:
            (y,) = self.graph.add(CONSTRUCTS["rename"](names={units: made.name}), [("x", y)])  # type: ignore[call-arg, arg-type]
        self.values[node.id, 0] = y
        if node.name:
            self.graph.rename(y, node.name)


def opened(
    rebuild: Rebuild, node: Node | None, scan: TiledScan, operands: list[tuple[str, Value]]
) -> tuple[TiledScan, list[tuple[str, Value]]]:
    """A scan whose body holds no weights, and what it reads, these among it."""
    body = _Opened(rebuild, scan)
    before = set(body.graph.inputs)
    for inner in scan.graph:
        if not isinstance(inner.op, Input):
            body.add(inner)
            if inner.op.params(*scan.graph.input_types(inner)):
                rebuild.new.add(kept(scan.graph, inner), span=inner.span, label=inner.label)
    body.graph.outputs = [(port, body.values[value.node, value.output]) for port, value in scan.graph.outputs]
    rebuild.uses.update((value.node, value.output) for value in body.operands)
    ports = [port for port in body.graph.inputs if port not in before]
    operands = [*operands, *zip(ports, body.operands, strict=True)]
    by_port = dict(operands)
    made = scan.model_copy(update={"graph": body.graph})
    return made, [(port, by_port[port]) for port in made.given if port in by_port]
