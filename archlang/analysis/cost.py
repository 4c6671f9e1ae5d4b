"""What a network costs: parameters, multiply-accumulates, the memory of its values and of its state, as expressions in
its free sizes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

from archlang.ir import Call, Graph, Input, Node, Parameter, Scan, WeightOf
from archlang.primitives.mixture import Dispatch
from archlang.sizes import Poly, Rational, Size, product, substitute, total

UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a graph or one node. Shared weights count once, buffers not at all; `macs` and `activation_bytes` are of one
    forward pass, `state_bytes` what one position of time leaves to the next; `active_params` are those that a
    token meets, where experts are chosen for it.
    """

    params: Size = 0
    macs: Size = 0
    activation_bytes: Size = 0
    state_bytes: Size = 0
    active_params: Size = 0

    @property
    def flops(self) -> Size:
        """As torch's FlopCounterMode counts: two per multiply-accumulate."""
        return self.macs * 2

    def at(self, sizes: Mapping[str, Size]) -> "Cost":
        """With these values of free sizes."""
        return Cost(*(substitute(getattr(self, field.name), sizes) for field in fields(Cost)))

    def __add__(self, other: "Cost") -> "Cost":
        return Cost.sum((self, other))

    @staticmethod
    def sum(costs: Iterable["Cost"]) -> "Cost":
        """Of several nodes together."""
        every = list(costs)
        return Cost(*(total(getattr(cost, field.name) for cost in every) for field in fields(Cost)))


@dataclass(frozen=True, slots=True)
class Part:
    """A labelled part of a network: its path, the node that it is, and what it costs. Uses of shared weights after the
    first cost no params.
    """

    path: str
    depth: int
    node: Node
    cost: Cost


def cost(graph: Graph) -> Cost:
    """The whole of a graph; each distinct graph is summed once."""
    return _Costs().graph(graph)


def parts(graph: Graph) -> Iterator[Part]:
    """All labelled nodes, each before what is in it, in order."""
    costs = _Costs()
    stack: list[tuple[str, int, Size, Iterator[tuple[Node, Cost]]]] = [("", 0, 1, costs.nodes(graph))]
    while stack:
        prefix, depth, times, rest = stack[-1]
        found = next(rest, None)
        if found is None:
            stack.pop()
            continue
        node, own = found
        if isinstance(node.op, Scan):  # its body has the labels of the graph around it
            stack.append((prefix, depth, times * node.op.axis.size, costs.nodes(node.op.graph)))
        if node.label is None:
            continue
        path = f"{prefix}{node.label}"
        yield Part(path, depth, node, replace(own, macs=own.macs * times))
        if isinstance(node.op, Call):
            stack.append((f"{path}.", depth + 1, times, costs.nodes(node.op.graph)))


class _Costs:
    """Sums, with a memo by digest."""

    def __init__(self) -> None:
        self._known: dict[str, Cost] = {}
        self._nodes: dict[str, list[tuple[Node, Cost]]] = {}

    def graph(self, graph: Graph) -> Cost:
        if graph.digest not in self._known:
            self._known[graph.digest] = Cost.sum(own for _, own in self.nodes(graph))
        return self._known[graph.digest]

    def nodes(self, graph: Graph) -> Iterator[tuple[Node, Cost]]:
        """Each node with its cost; of equal graphs those of the first."""
        if graph.digest not in self._nodes:
            self._nodes[graph.digest] = list(self._each(graph))
        return iter(self._nodes[graph.digest])

    def _each(self, graph: Graph) -> Iterator[tuple[Node, Cost]]:
        """The parameters of a label with its first node, those of a lent layer with the first call that borrows it."""
        made = {label: self.params(owner, maker) for label, owner, maker in graph.makers()}
        means: dict[str, Size] = {}  # of sizes that data makes
        for node in graph:
            own = self.work(graph, node)
            if isinstance(node.op, Dispatch):
                means |= node.op.means(*graph.input_types(node))
            own = own.at(means) if means else own
            share = _share(graph, node)
            if not isinstance(node.op, WeightOf):
                borrowed = [label for _, label in node.op.layers] if isinstance(node.op, Call) else []
                labels = [label for label, _, _ in node.op.graph.makers()] if isinstance(node.op, Scan) else []
                for label in (node.label, *borrowed, *labels):
                    if label and (found := made.pop(label, None)):
                        params, active = own.params + found.params, own.active_params + found.active_params * share
                        own = replace(own, params=params, active_params=active)
            yield node, own

    def params(self, graph: Graph, node: Node) -> Cost:
        """The parameters that a node makes."""
        if isinstance(node.op, Call):
            inner = self.graph(node.op.graph)
            return Cost(params=inner.params, active_params=inner.active_params)
        count = total(product(p.shape) for p in graph.params(node).values() if not p.buffer)
        return Cost(params=count, active_params=count)

    def work(self, graph: Graph, node: Node) -> Cost:
        """What a node costs in each forward pass."""
        if isinstance(node.op, Call):
            return replace(self.graph(node.op.graph), params=0, active_params=0)
        if isinstance(node.op, Scan):
            return self.scan(graph, node, node.op)
        if isinstance(node.op, Input | Parameter | WeightOf):
            return Cost()
        types = graph.input_types(node)
        state = total(type_.bytes for type_ in node.op.state(*types).values())
        return Cost(0, node.op.macs(*types), total(type_.bytes for type_ in node.types), state)

    def scan(self, graph: Graph, node: Node, op: Scan) -> Cost:
        """The body once for each position; every position keeps its values for training."""
        steps, body = op.axis.size, self.graph(op.graph)
        kept = body.activation_bytes * steps + total(type_.bytes for type_ in node.types)
        state = total(type_.bytes for type_ in op.state().values())
        return Cost(0, body.macs * steps, kept, body.state_bytes + state)


def _share(graph: Graph, node: Node) -> Rational:
    """The part of the tokens that a node is for: less than all where they were given out among experts."""
    for _, value in graph.operands(node):
        giver = graph.producer(value)
        if isinstance(giver.op, Dispatch) and value.output < giver.op.experts:
            return giver.op.shares(*graph.input_types(giver))
    return 1


def amount(size: Size) -> str:
    """A count in three digits and a unit, 30.9M; so are the factors of an expression in free sizes, 30.9M * t."""
    if isinstance(size, Poly):
        return size.text(amount)
    for unit, letter in UNITS:
        if size >= unit:
            return f"{float(size / unit):.3g}{letter}" if size < 999.5 * unit else f"{float(size / unit):.0f}{letter}"
    return str(size) if size else ""
