"""What a network costs: parameters, multiply-accumulates and the memory of its values, as expressions in its free sizes."""

from collections.abc import Iterator
from dataclasses import dataclass

from archlang.ir import Call, Graph, Input, Node, Parameter, WeightOf
from archlang.sizes import Size, product


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a graph or one node. Shared weights count once, buffers not at all; `macs` and `activation_bytes` are of one forward pass."""

    params: Size = 0
    macs: Size = 0
    activation_bytes: Size = 0

    @property
    def flops(self) -> Size:
        """As torch's FlopCounterMode counts: two per multiply-accumulate."""
        return self.macs * 2

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.macs + other.macs, self.activation_bytes + other.activation_bytes)


@dataclass(frozen=True, slots=True)
class Part:
    """A labelled part of a network: its path, the node that it is, and what it costs. Uses of shared weights after the first cost no params."""

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
    stack = [(graph, "", 0, iter(costs.nodes(graph)))]
    while stack:
        _, prefix, depth, rest = stack[-1]
        found = next(rest, None)
        if found is None:
            stack.pop()
            continue
        node, own = found
        if node.label is None:
            continue
        path = f"{prefix}{node.label}"
        yield Part(path, depth, node, own)
        if isinstance(node.op, Call):
            stack.append((node.op.graph, f"{path}.", depth + 1, iter(costs.nodes(node.op.graph))))


class _Costs:
    """Sums, with a memo by digest."""

    def __init__(self) -> None:
        self._known: dict[str, Cost] = {}

    def graph(self, graph: Graph) -> Cost:
        if graph.digest not in self._known:
            total = Cost()
            for _, own in self.nodes(graph):
                total += own
            self._known[graph.digest] = total
        return self._known[graph.digest]

    def nodes(self, graph: Graph) -> Iterator[tuple[Node, Cost]]:
        """Each node with its cost; parameters with the first node of a label, lent layers with the caller."""
        seen: set[str] = set()
        lent = {label: node.op.graph for node in graph if isinstance(node.op, Call) for _, label in node.op.layers}
        own = {node.label for node in graph if not isinstance(node.op, WeightOf)}
        for node in graph:
            total = self.node(graph, node)
            if node.label is not None and (node.label in seen or node.label.startswith("@")):
                total = Cost(0, total.macs, total.activation_bytes)
            if isinstance(node.op, Call):
                for port, label in node.op.layers:
                    if label not in own and label not in seen and not label.startswith("@") and label in lent:
                        seen.add(label)
                        total += Cost(port_params(node.op.graph, port))
            if node.label is not None and not isinstance(node.op, WeightOf):
                seen.add(node.label)
            yield node, total

    def node(self, graph: Graph, node: Node) -> Cost:
        if isinstance(node.op, Call):
            return self.graph(node.op.graph)
        weights = sum((product(p.shape) for p in graph.params(node).values() if not p.buffer), start=0)
        if isinstance(node.op, Input | Parameter | WeightOf):
            return Cost(weights)
        made = sum((type_.bytes for type_ in node.types), start=0)
        return Cost(weights, node.op.macs(*graph.input_types(node)), made)


def port_params(graph: Graph, port: str) -> Size:
    """The parameters of the layer that a port of a graph holds, where only the graph says what it is."""
    for node in graph:
        if node.label == f"@{port}":
            if isinstance(node.op, Call):
                return cost(node.op.graph).params
            if params := graph.params(node):
                return sum((product(p.shape) for p in params.values() if not p.buffer), start=0)
        if isinstance(node.op, Call):
            for inner, label in node.op.layers:
                if label == f"@{port}":
                    return port_params(node.op.graph, inner)
    return 0
