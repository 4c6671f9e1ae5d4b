"""What weights alone determine: values that no input has a part in, and that are the same in every call."""

from archlang.ir import Call, Foreign, Graph, Input, Kept, Node, Parameter, Scan, Value, WeightOf
from archlang.primitive import Primitive

_VIEWS = frozenset("arrange rename rearrange select slice split reshape".split())  # of a weight: nothing to work out


def determined(graph: Graph) -> set[int]:
    """The nodes whose results weights and constants alone determine."""
    found: set[int] = set()
    for node in graph:
        if _fixed(node) and all(value.node in found for _, value in reads(graph, node)):
            found.add(node.id)
    return found


def is_determined(graph: Graph, value: Value) -> bool:
    """Whether weights and constants alone determine a value."""
    waiting, seen = [value.node], set[int]()
    while waiting:
        if (id := waiting.pop()) in seen:
            continue
        seen.add(id)
        if not _fixed(node := graph.node(id)):
            return False
        waiting += [operand.node for _, operand in reads(graph, node)]
    return True


def derived(graph: Graph) -> list[Value]:
    """The values worth working out once: made of weights or of tables of numbers by more than views, and read by what
    is different in every call.
    """
    known = determined(graph)
    made = _made(graph, known)
    results = {(value.node, value.output) for value in graph.results()}
    values = [Value(graph, id, i, type_) for id in sorted(made) for i, type_ in enumerate(graph.node(id).types)]
    return [v for v in values if (v.node, v.output) in results or any(u.id not in known for u, _ in graph.users(v))]


def reads(graph: Graph, node: Node) -> list[tuple[str, Value]]:
    """The operands of a node whose values matter."""
    return [] if node.op.by_type else graph.operands(node)


def _fixed(node: Node) -> bool:
    """Whether equal operands always give equal results, of a known size."""
    op: Primitive = node.op
    if isinstance(op, Input | Kept | Call | Scan | Foreign) or op.random or op.name == "batch_norm":
        return False
    sizes = [axis.size for type_ in node.types for axis in type_]
    return all(isinstance(size, int) for size in sizes) and not (node.label or "").startswith("@")


def _made(graph: Graph, known: set[int]) -> set[int]:
    """Those of the known nodes that make something new of a weight or a table."""
    sources, made = set[int](), set[int]()
    for node in (graph.node(id) for id in sorted(known)):
        operands = [value.node for _, value in reads(graph, node)]
        if isinstance(node.op, Parameter | WeightOf) or node.op.name == "values":
            sources.add(node.id)
        elif node.label or (set(operands) & (sources | made) and node.op.name not in _VIEWS) or set(operands) & made:
            made.add(node.id)
        elif set(operands) & sources:
            sources.add(node.id)
    return made
