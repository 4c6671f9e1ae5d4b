"""Scans as one kernel each, where its programs hold what they carry, and sums that forget as such scans."""

from typing import Any

from archlang.ir import Arrange, FusedScan, Graph, Input, Node, Rebuild, Scan, TiledScan, Value
from archlang.passes.chains import NORMS, SINGLE, fits
from archlang.passes.tiled_scans import opened, sums, tiled_refusal
from archlang.primitives import CONSTRUCTS
from archlang.primitives.gated_sum import GatedSum
from archlang.rewrite import Event, Record, describe, everywhere
from archlang.sizes import total

MOST = 64  # operations of a body: what stands between them stays in registers
MOST_INPUTS = 12


def fused_scans(graph: Graph, record: Record) -> Graph:
    """A scan whose body is pointwise, one position after another in one kernel."""
    return everywhere(graph, lambda part: _fused(part, record))


def _fused(graph: Graph, record: Record) -> Graph:
    found: dict[int, FusedScan] = {}
    for node in graph:
        if (scan := _scan(graph, node)) is None:
            continue
        reason = refusal(scan)
        if reason and sums(scan):
            scan = TiledScan(**dict(scan))
            reason = tiled_refusal(scan)
        if reason:
            record.refused("fused_scans", graph, node, reason)
        else:
            found[node.id] = scan
    if not found:
        return graph
    rebuild = Rebuild(graph)
    for node in graph:
        if node.id in found:
            _put(rebuild, node, found[node.id], record)
        else:
            rebuild.copy(node)
    return rebuild.finish()


def _scan(graph: Graph, node: Node) -> FusedScan | None:
    """A node as the scan that one kernel may run."""
    if isinstance(node.op, GatedSum):
        return _of_sum(graph, node, node.op)
    return FusedScan(**dict(node.op)) if type(node.op) is Scan else None


def _of_sum(graph: Graph, node: Node, op: GatedSum) -> FusedScan:
    """y = decay y + x as a scan."""
    given = dict(graph.operands(node))
    axis = node.types[0][op.axis(given["x"].type)]
    body = Graph("scan")
    y = body.add_input("y", node.types[0].without(axis.name))
    each = [port for port in ("x", "decay") if port in given and axis.name in given[port].type]
    ports = {port: body.add_input(port, _at(given[port], axis.name)) for port in ("x", "decay") if port in given}
    decay = [("b", ports["decay"])] if "decay" in ports else []
    fixed = {} if decay else {"right": op.factor}
    (kept,) = body.add(CONSTRUCTS["mul"](**fixed), [("a", y), *decay])  # type: ignore[arg-type]
    (total,) = body.add(CONSTRUCTS["add"](), [("a", kept), ("b", ports["x"])])  # type: ignore[arg-type]
    body.outputs = [("y", total), ("", total)]
    starts = {} if "start" in given else {"y": 0}
    return FusedScan(graph=body, axis=axis, carries=("y",), each=tuple(each), reverse=op.reverse, starts=starts)


def _at(value: Value, axis: str) -> Any:
    """The type of a value at one position."""
    return value.type.without(axis) if axis in value.type else value.type


def _put(rebuild: Rebuild, node: Node, scan: FusedScan, record: Record) -> None:
    """The scan in the place of a node, the axes of its results in their order."""
    ports = {"start": "y"} if isinstance(node.op, GatedSum) else {}
    operands = [(ports.get(port, port), value) for port, value in rebuild.operands(node)]
    if isinstance(scan, TiledScan):
        scan, operands = opened(rebuild, node, scan, operands)
    values = list(rebuild.apply(scan, operands, node))
    rebuild.uses.update((value.node, value.output) for _, value in operands)
    for i, (value, type_) in enumerate(zip(values, node.types, strict=True)):
        if value.type.names != type_.names:
            values[i] = rebuild.add(Arrange(order=type_.names), [("x", value)], node)
    rebuild.put(node, values)
    inner = [n for n in scan.graph if not isinstance(n.op, Input) and n.id not in {v.node for v in scan.yields}]
    saved = total(n.types[0].bytes for n in inner) * scan.axis.size
    removed, added = describe(rebuild.old, node), describe(rebuild.new, rebuild.new.node(values[0].node))
    place = (record.stage, "fused_scans", rebuild.new.name, node.span)
    record.events.append(Event(*place, removed=(removed,), added=(added,), saved=saved))


# ---- which scans
def refusal(scan: FusedScan) -> str:
    """Why no kernel takes a scan, if so."""
    graph = scan.graph
    for node in graph:
        if isinstance(node.op, Input):
            if node.types[0].dtype != "float":
                return f"`{node.op.port}` is {node.types[0].dtype}"
        elif node.op.name not in SINGLE - {"layer_scale"} or node.op.name in NORMS or not fits(graph, node):
            return f"`{node.label or node.op.name}` is no operation on single elements of float"
    space = set(graph.inputs[scan.carries[0]].type.names)
    ends = [value for _, value in graph.outputs]
    if any(set(value.type.names) != space for value in ends):
        return "not all that it carries and yields has the same axes"
    if any(not set(value.type.names) <= space for value in graph.inputs.values()):
        return "it reads along an axis that no carry has"
    if not any(scan.is_full(port) for port in scan.each):
        return "no input has all axes of the carries at each position"
    if any(not graph.users(value) and value not in ends for value in graph.inputs.values()):
        return "it carries what nothing reads"
    return _too_large(scan)


def _too_large(scan: FusedScan) -> str:
    large = len(scan.operations) > MOST or len(scan.graph.inputs) > MOST_INPUTS
    return f"more than {MOST} operations or {MOST_INPUTS} inputs fit no registers" if large else ""
