"""The driver: applies rules to a graph and to all graphs in it until none holds, and owns their safety.

A node that a match would remove must have no reader outside the match, unless the rule says that others may read it.
What a rule makes must have the axes and the dtype of what it stands for; it is brought to the order of the axes. Sweeps
are bounded. Types come from the
operations as each node is added, so a graph is verified by being built.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from archlang.ir import Arrange, Call, FusedScan, Graph, Node, Rebuild, Scan, Value
from archlang.rewrite.pattern import Captures
from archlang.rewrite.record import Record
from archlang.rewrite.rule import Match, No, Rule
from archlang.shapes import TensorType

Roots: TypeAlias = Mapping[str, list[Rule]]  # the rules whose left side is an operation of that name
ROUNDS = 64  # sweeps over one graph: each makes it simpler, and a rule that does not is a bug


def everywhere(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """The graph with `change` applied to it and to every graph in it, those that are called first, each once."""
    known: dict[str, Graph] = {}

    def visit(part: Graph) -> Graph:
        if part.digest not in known:
            known[part.digest] = change(_with_parts(part, visit))
        return known[part.digest]

    return visit(graph)


def _with_parts(graph: Graph, visit: Callable[[Graph], Graph]) -> Graph:
    """The graph with what it calls replaced."""
    held = {node.id: inner for node in graph if (inner := _held(node)) is not None}
    made = {id: visit(inner) for id, inner in held.items()}
    if all(made[id] is inner for id, inner in held.items()):
        return graph
    rebuild = Rebuild(graph)
    for node in graph:
        rebuild.copy(node, node.op.model_copy(update={"graph": made[node.id]}) if node.id in made else None)
    return rebuild.finish()


def _held(node: Node) -> Graph | None:
    """The graph that a node calls, or runs along an axis; what is one kernel stays as it is."""
    return node.op.graph if isinstance(node.op, Call | Scan) and not isinstance(node.op, FusedScan) else None


def rewrite(
    graph: Graph, rules: Iterable[Rule], record: Record, opened: Callable[[Graph], Graph] | None = None
) -> Graph:
    """The graph after all rules, wherever they hold; with blocks `opened` where rules hold across their borders."""
    roots: dict[str, list[Rule]] = {}
    for rule in rules:
        for name in rule.pattern.ops:
            roots.setdefault(name, []).append(rule)

    def settle(part: Graph) -> Graph:
        part = _settled(part, roots, record)
        if opened is None or (whole := opened(part)) is part:
            return part
        trial = record.trial()
        found = _settled(whole, roots, trial)
        return found if record.take(trial) else part

    return everywhere(graph, settle)


def _settled(graph: Graph, roots: Roots, record: Record) -> Graph:
    """The graph once no rule holds."""
    for _ in range(ROUNDS):
        if (after := _sweep(graph, roots, record)) is graph:
            return graph
        graph = after
    raise AssertionError(f"{graph.name}: rules still hold after {ROUNDS} sweeps")


def _sweep(graph: Graph, roots: Roots, record: Record) -> Graph:
    """Every rule once at every node; the graph itself where none held."""
    if not any(_matches(rule, graph, node) for node in graph for rule in roots.get(node.op.name, ())):
        return graph
    rebuild, held = Rebuild(graph), False
    for node in graph:
        made = rebuild.copy(node)
        held |= any(_try(rule, rebuild, made, record) for rule in roots.get(node.op.name, ()))
    return rebuild.finish() if held else graph


def _matches(rule: Rule, graph: Graph, node: Node) -> bool:
    return next(rule.pattern.match(graph, node, {}), None) is not None


def _try(rule: Rule, rebuild: Rebuild, root: Node, record: Record) -> bool:
    """Apply a rule at a node, if it holds there."""
    graph = rebuild.new
    for found in rule.pattern.match(graph, root, {}):
        start = len(graph)
        result = _shared(rule, rebuild, found, root) or rule.apply(Match(rebuild, found, root))
        if result is None or isinstance(result, No):
            rebuild.forget(start)
        if result is None:
            continue
        if isinstance(result, No):
            record.refused(rule.name, graph, root, result.reason)
            continue
        _put(rule, rebuild, root, result if isinstance(result, tuple) else (result,))
        gone = [node for node in found.values() if isinstance(node, Node) and not rebuild.reads(node)]
        record.fired(rule.name, graph, root, gone, [graph.node(i) for i in range(start, len(graph))])
        return True
    return False


def _put(rule: Rule, rebuild: Rebuild, root: Node, results: tuple[Value, ...]) -> None:
    """What a rule made stands for the results of a node, its axes in their order."""
    assert len(results) == len(root.types), f"{rule.name}: {len(results)} results for {len(root.types)}"
    for output, (made, type_) in enumerate(zip(results, root.types, strict=True)):
        assert _alike(made.type, type_), f"{rule.name}: {made.type} does not stand for {type_}"
        if made.type.names != type_.names:
            made = rebuild.add(Arrange(order=type_.names), [("x", made)], root)
        rebuild.move(Value(rebuild.new, root.id, output, type_), made)


def _shared(rule: Rule, rebuild: Rebuild, found: Captures, root: Node) -> No | None:
    """Refuse a match with an inner node that something outside it reads."""
    inner = {name: node for name, node in found.items() if isinstance(node, Node) and node is not root}
    reads = Counter(value.node for node in (root, *inner.values()) for _, value in rebuild.new.operands(node))
    for name, node in inner.items():
        if name not in rule.shared and rebuild.reads(node) > reads[node.id]:
            return No(f"the result of `{node.label or node.op.name}` is read elsewhere too")
    return None


def _alike(made: TensorType, meant: TensorType) -> bool:
    return set(made.axes) == set(meant.axes) and made.dtype == meant.dtype
