"""The typed tree of a network: its labelled parts with axes, parameters and multiply-accumulates."""

from collections.abc import Iterable, Iterator, Mapping

from archlang.analysis.cost import Cost, Part, amount, cost, parts
from archlang.analysis.memory import Estimate, shown
from archlang.facts import Condition
from archlang.ir import Call, Graph, Node
from archlang.sizes import substitute

Row = tuple[str, str, str, str, str]


def tree(graph: Graph, title: str, conditions: Mapping[Condition, str], memory: Estimate) -> str:
    """Inputs, parts and outputs in columns; equal neighbours in a loop are one row. MACs and memory are of one
    sample.
    """
    rows: list[Row] = [("part", "is", "makes", "params", "MACs")]
    rows += [(name, "input", str(value.type), "", "") for name, value in graph.inputs.items()]
    rows += [_row(run) for run in list(_runs(parts(graph)))]  # a run is whole when all have been read
    rows += [(name, "output", str(value.type), "", "") for name, value in graph.outputs]
    whole = cost(graph)
    rows.append((title, "", "", *_amounts(whole)))
    few = whole.active_params != whole.params
    active = [f"active: {amount(whole.active_params)} of the parameters, those that one token meets"] if few else []
    stated = (_stated(condition, why) for condition, why in conditions.items())
    return "\n".join([*_columns(rows), *active, _held(memory.at({"b": 1})), *stated])


def _held(memory: Estimate) -> str:
    """The peaks of memory in words."""
    inference, training, more = (shown(size) for size in (memory.inference, memory.training, memory.optimiser))
    return f"memory: {inference} in inference, {training} in training, and {more} more for AdamW"


def _runs(found: Iterable[Part]) -> Iterator[list[Part]]:
    """Parts in order, those of a loop that repeat the one before joined to it; what is in the repeated ones is left
    out.
    """
    run: list[Part] = []
    last_at: dict[int, list[Part]] = {}  # by depth: the run that a neighbour may join
    for part in found:
        if any(part.depth > other.depth and part.path.startswith(f"{other.path}.") for other in run[1:]):
            continue
        before = last_at.get(part.depth)
        if before and _alike(before[-1].node, part.node):
            before.append(part)
            run = before
            continue
        run = [part]
        last_at = {depth: kept for depth, kept in last_at.items() if depth < part.depth} | {part.depth: run}
        yield run


def _alike(a: Node, b: Node) -> bool:
    """Whether two calls are iterations of one loop with one graph."""
    if not (isinstance(a.op, Call) and isinstance(b.op, Call) and a.label and b.label and "." in a.label):
        return False
    return a.label.partition(".")[0] == b.label.partition(".")[0] and a.op.graph.digest == b.op.graph.digest


def _row(run: list[Part]) -> Row:
    first, last = run[0], run[-1]
    label = str(first.node.label)
    if len(run) > 1:
        label += f"-{str(last.node.label).rpartition('.')[2]}"
    total = sum((part.cost for part in run[1:]), first.cost)
    kind = first.node.op.graph.name if isinstance(first.node.op, Call) else first.node.op.name
    types = ", ".join(map(str, first.node.types))
    return ("  " * first.depth + label, "" if "." in label else kind, types, *_amounts(total))


def _amounts(found: Cost) -> tuple[str, str]:
    return amount(found.params), amount(substitute(found.macs, {"b": 1}))


def _columns(rows: list[Row]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _stated(condition: Condition, why: str) -> str:
    return f"requires {condition}{f': {why}' if why else ''}"
