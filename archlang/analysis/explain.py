"""Which algorithm each operation takes, and why, where there are several."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from archlang.ir import Call, Graph, Node, Scan, Value
from archlang.primitive import Primitive
from archlang.source import BUILTIN

_FAR = 20  # operations that a value is followed through for a name
Also: TypeAlias = Callable[[Primitive, Sequence[Any]], str]
NOTHING = "every operation has one algorithm"


@dataclass(frozen=True, slots=True)
class Choice:
    """The algorithm of an operation: where it stands in the network and in the source."""

    path: str
    operation: str
    place: str
    algorithm: str


def choices(graph: Graph, also: Also | None = None, prefix: str = "") -> Iterator[Choice]:
    """All operations that have several algorithms, in order; equal neighbours of a loop once. `also` says more of
    one.
    """
    for run in _runs(graph):
        node, path = run[0], f"{prefix}{_called(graph, run)}"
        if isinstance(node.op, Call):
            yield from choices(node.op.graph, also, f"{path}.")
            continue
        types = graph.input_types(node)
        algorithm, more = node.op.algorithm(*types), also(node.op, types) if also else ""
        said = [graph.remarks.get(node.id, ""), more, f"in PyTorch {algorithm}" if more and algorithm else algorithm]
        if any(said):
            place = "" if node.span == BUILTIN else f"{node.span.source.name}:{node.span.position[0]}"
            yield Choice(path, node.op.name, place, "; ".join(filter(None, said)))
        if isinstance(node.op, Scan):
            yield from choices(node.op.graph, also, prefix)


def explain(found: Iterable[Choice]) -> str:
    """The choices as text: what and where, and below it how and why."""
    lines = []
    for choice in found:
        place = f"  ({choice.place})" if choice.place else ""
        lines += [f"{choice.path}: {choice.operation}{place}", f"    {choice.algorithm}"]
    return "\n".join(lines or [NOTHING])


def _runs(graph: Graph) -> Iterator[list[Node]]:
    """The nodes, calls of one loop that run one graph after another together."""
    run: list[Node] = []
    for node in graph:
        if run and isinstance(node.op, Call) and _alike(run[-1], node):
            run.append(node)
            continue
        if run:
            yield run
        run = [node]
    if run:
        yield run


def _alike(a: Node, b: Node) -> bool:
    if not (isinstance(a.op, Call) and isinstance(b.op, Call) and a.label and b.label and "." in a.label):
        return False
    return a.label.partition(".")[0] == b.label.partition(".")[0] and a.op.graph.digest == b.op.graph.digest


def _called(graph: Graph, run: list[Node]) -> str:
    """The label of an operation, the user's name of what it makes, or of what that becomes."""
    first, last = run[0], run[-1]
    if len(run) > 1:
        return f"{first.label}-{str(last.label).rpartition('.')[2]}"
    return first.label or _named(graph, first) or first.op.name


def _named(graph: Graph, node: Node) -> str | None:
    """The user's name of what an operation makes, or of the first that is made of it."""
    for _ in range(_FAR):
        value = Value(graph, node.id, 0, node.types[0])
        users = graph.users(value)
        if (name := graph.name_of(value)) or not users:
            return name
        node = users[0][0]
    return None
