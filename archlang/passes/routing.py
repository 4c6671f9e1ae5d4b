"""Routers as one step: a score of experts, the largest of them, and the weights that follow from these."""

from dataclasses import dataclass
from typing import Any

from archlang.ir import Graph, Node, Rebuild, Value
from archlang.primitive import axes_of
from archlang.primitives.top_k_routing import TopKRouting
from archlang.rewrite import Event, Record, describe, everywhere
from archlang.sizes import total


def top_k_routing(graph: Graph, record: Record) -> Graph:
    """top_k(score(x) + bias), and the weights that follow from the scores of these, in one step."""
    return everywhere(graph, lambda part: _routed(part, record))


LIMIT = "rearrange where gt sum one_hot rename top_k"  # what leaves some groups of experts to choose from, from its end
PATHS = tuple(f"{LIMIT} {best} rearrange".split() for best in ("sum top_k", "max"))


@dataclass(frozen=True, slots=True)
class Limit:
    """What leaves the best groups of experts to choose from: how many there are, are kept, and count of each."""

    nodes: tuple[Node, ...]
    groups: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Router:
    """A `top_k`, and what stands around it that becomes one with it."""

    top: Node
    logits: Value
    bias: Value | None
    score: Node | None  # of the logits, of all experts
    keys: Node | None  # the scores with a bias
    limit: Limit | None  # to the best groups
    read: Node | None  # the scores of those that are chosen, where these are not what `top_k` gives
    sum: Node | None
    weight: Node | None  # what becomes of them

    @property
    def nodes(self) -> list[Node]:
        """All that becomes one, in order."""
        limit = self.limit.nodes if self.limit else ()
        found = (self.score, self.keys, *limit, self.top, self.read, self.sum, self.weight)
        return sorted((node for node in found if node is not None), key=lambda node: node.id)

    @property
    def weights(self) -> str:
        """How the weights follow from the scores."""
        return "none" if self.weight is None else "share" if self.sum is not None else "softmax"


def _routed(graph: Graph, record: Record) -> Graph:
    routers = {node.id: router for node in graph if node.op.name == "top_k" and (router := _router(graph, node))}
    if not routers:
        return graph
    rebuild, gone = Rebuild(graph), {node.id for router in routers.values() for node in router.nodes}
    for node in graph:
        if node.id in routers:
            _put(rebuild, routers[node.id], record)
        elif node.id not in gone:
            rebuild.copy(node)
    return rebuild.finish()


def _put(rebuild: Rebuild, router: Router, record: Record) -> None:
    """The router in the place of its `top_k`."""
    graph, top = rebuild.old, router.top
    op: Any = top.op
    score: Any = router.score.op.name if router.score else "none"
    weights: Any = router.weights
    scored = router.score is not None and bool(_others(graph, router.score, router.nodes))
    groups = router.limit.groups if router.limit else None
    made = TopKRouting(k=op.k, on=_axis(graph, top), score=score, weights=weights, scored=scored, groups=groups)
    given = [("logits", rebuild.value(router.logits))]
    given += [("bias", rebuild.value(router.bias))] if router.bias else []
    node = rebuild.new.producer(rebuild.add(made, given, top))
    index, weight, *scores = (Value(rebuild.new, node.id, i, type_) for i, type_ in enumerate(node.types))
    last = router.weight or router.read
    rebuild.put(top, [index] if last else [index, weight])
    if last:
        rebuild.put(last, [weight])
    if router.score:
        rebuild.put(router.score, scores)
    rebuild.new.rename(weight, "weight")
    removed = tuple(describe(graph, old) for old in router.nodes)
    added = (describe(rebuild.new, rebuild.new.node(node.id)),)
    saved = total(old.types[-1].bytes for old in router.nodes) - total(type_.bytes for type_ in node.types[1:])
    place = (record.stage, "top_k_routing", graph.name, top.span)
    record.events.append(Event(*place, removed=removed, added=added, saved=saved))


# ---- which
def _router(graph: Graph, top: Node) -> Router | None:
    """The router around a `top_k`, if there is more to it than that."""
    op: Any = top.op
    axis, keys = _axis(graph, top), graph.operands(top)[0][1]
    if keys.type.dtype != "float" or not isinstance(op.k, int) or not isinstance(keys.type.size(axis), int):
        return None
    keys, limit = _limited(graph, keys, axis, top)
    scores, bias = _biased(graph, keys, axis)
    chosen = Value(graph, top.id, 1, top.types[1])
    read = _gathered(graph, scores, top, axis) if bias else None
    if bias and (read is None or graph.users(chosen)):
        return None
    chosen = chosen if read is None else Value(graph, read.id, 0, read.types[0])
    score, (sum_, weight) = _score(graph, scores, axis), _weighted(graph, chosen, axis)
    logits = graph.operands(score)[0][1] if score else scores
    router = Router(top, logits, bias, score, graph.producer(keys) if bias else None, limit, read, sum_, weight)
    late = score is None or all(user.id > top.id for user in _others(graph, score, router.nodes))
    return router if (score or weight) and late else None


def _axis(graph: Graph, node: Node) -> str:
    """The axis that an operation is over; empty where there are several."""
    op: Any = node.op
    axes = axes_of(op.on, graph.operands(node)[0][1].type)
    return axes[0] if len(axes) == 1 else ""


def _others(graph: Graph, node: Node, nodes: list[Node]) -> list[Node]:
    """Who reads a result besides these; those who read it at the end stand for the graph's own results."""
    value, own = Value(graph, node.id, 0, node.types[0]), {node.id for node in nodes}
    kept = [graph.last] if value in graph.results() else []
    return [*kept, *(user for user, _ in graph.users(value) if user.id not in own)]


def _limited(graph: Graph, keys: Value, axis: str, top: Node) -> tuple[Value, Limit | None]:
    """The keys of all experts, where these are such in the best groups alone, and what finds the groups."""
    for path in PATHS:
        nodes, value = list[Node](), keys
        for name in path:
            if (node := graph.producer(value)).op.name != name:
                break
            nodes.append(node)
            value = graph.operands(node)[0][1]
        if len(nodes) == len(path) and (groups := _groups(graph, nodes, axis, top)):
            return value, Limit(tuple(nodes), groups)
    return keys, None


def _groups(graph: Graph, nodes: list[Node], axis: str, last: Node) -> tuple[int, int, int] | None:
    """How many groups there are, are kept, and of how many experts each counts the sum; nothing where these nodes are
    something else, or are read by others than the `top_k` at the end.
    """
    ops: list[Any] = [node.op for node in (*nodes, last)]
    split = nodes[-1]
    group, choice = _axis(graph, nodes[6]), Value(graph, split.id, 0, split.types[0])
    if [ops[0].pattern, ops[-2].pattern] != [f"{group} {axis} -> {axis}", f"{axis} -> {group} {axis}"]:
        return None
    best = nodes[7:-1]  # the sum of the largest keys and their `top_k`, or the largest key
    fits = (
        (ops[1].right, ops[2].right, ops[4].axis) == (float("-inf"), 0, group)
        and graph.operands(nodes[1])[1][1] == choice
        and nodes[3].types[0].names == choice.type.without(axis).names
        and {_axis(graph, node) for node in best} == {axis}
        and [graph.operands(node)[0][1].output for node in (nodes[5], best[0])] == [0, len(best) - 1]
    )
    count, each = choice.type.size(group), choice.type.size(axis)
    kept, some, k = ops[6].k, ops[8].k if len(best) > 1 else 1, ops[-1].k
    if not (fits and _alone(graph, nodes, last) and isinstance(count, int) and isinstance(each, int)):
        return None
    return (count, kept, some) if isinstance(kept, int) and isinstance(some, int) and k <= kept * each else None


def _alone(graph: Graph, nodes: list[Node], last: Node) -> bool:
    """Whether nothing but these nodes and the last reads what they make."""
    results = {Value(graph, node.id, i, type_) for node in nodes for i, type_ in enumerate(node.types)}
    own = {node.id for node in (*nodes, last)}
    return not results & {*graph.results()} and all(u.id in own for value in results for u, _ in graph.users(value))


def _biased(graph: Graph, keys: Value, axis: str) -> tuple[Value, Value | None]:
    """Scores, and the bias of each expert that is added to them, if keys are such a sum that nothing else reads."""
    node = graph.producer(keys)
    given = [value for _, value in graph.operands(node)]
    if node.op.name != "add" or len(given) != 2 or len(graph.users(keys)) != 1 or keys in graph.results():
        return keys, None
    scores, bias = sorted(given, key=lambda value: -len(value.type.axes))
    return (scores, bias) if bias.type.names == (axis,) and scores.type.names != (axis,) else (keys, None)


def _score(graph: Graph, scores: Value, axis: str) -> Node | None:
    """The softmax or sigmoid that makes the scores."""
    node = graph.producer(scores)
    return node if node.op.name == "sigmoid" or (node.op.name == "softmax" and _axis(graph, node) == axis) else None


def _gathered(graph: Graph, scores: Value, top: Node, axis: str) -> Node | None:
    """The one that reads the scores of those that are chosen."""
    index = Value(graph, top.id, 0, top.types[0])
    for user, _ in graph.users(scores):
        op: Any = user.op
        given = [value for _, value in graph.operands(user)]
        if op.name == "gather" and op.axis == axis and given == [scores, index]:
            return user
    return None


def _weighted(graph: Graph, chosen: Value, axis: str) -> tuple[Node | None, Node | None]:
    """The sum of the chosen scores and what divides by it, or their softmax, where nothing else reads them."""
    users = sorted((user for user, _ in graph.users(chosen)), key=lambda user: user.op.name)
    names = [user.op.name for user in users]
    if chosen in graph.results() or names not in (["softmax"], ["div", "sum"]) or _axis(graph, users[-1]) != axis:
        return None, None
    if names == ["softmax"]:
        return None, users[0]
    div, sum_ = users
    value = Value(graph, sum_.id, 0, sum_.types[0])
    own = graph.users(value) == [(div, "b")] and value not in graph.results()
    return (sum_, div) if own and graph.operands(div)[0] == ("a", chosen) else (None, None)
