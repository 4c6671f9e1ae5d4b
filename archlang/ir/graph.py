"""The graph, its nodes and values, and the rules of time that every node keeps."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from archlang.facts import Facts
from archlang.ir.operations import Call, Foreign, Input, Kept, Parameter, Scan, WeightOf
from archlang.primitive import OpError, Param, Primitive
from archlang.shapes import TensorType
from archlang.sizes import Size
from archlang.source import BUILTIN, Span

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True, slots=True)
class Value:
    """One output of one node of one graph."""

    graph: "Graph" = field(repr=False)
    node: int
    output: int
    type: TensorType = field(compare=False)


@dataclass(frozen=True, slots=True)
class Node:
    """An operation at a place. `label` names its weights in its graph (equal labels share them; `@name` is a layer
    port); `name` is the user's.
    """

    id: int
    op: Primitive
    types: tuple[TensorType, ...]
    span: Span = field(default=BUILTIN, repr=False)
    label: str | None = None
    name: str | None = None


def infer(op: Primitive, facts: Facts, inputs: Sequence[Any]) -> tuple[TensorType, ...]:
    """The output types of an operation, with the rules of time: nothing looks ahead along it, and what has seen it
    whole never meets it again.
    """
    inferred = op.infer(facts, *inputs)
    _check_starts(op, inputs)
    types = (inferred,) if isinstance(inferred, TensorType) else tuple(inferred)
    given = [type_ for item in inputs for type_ in (item if isinstance(item, tuple) else (item,)) if type_ is not None]
    time = {axis.name for type_ in given for axis in type_ if axis.role == "time"}
    before = frozenset[str]().union(*(type_.lost for type_ in given))
    if isinstance(op, Call) or not (time or before):
        return types
    kept = {axis.name for type_ in types for axis in type_ if axis.role == "time"}
    if met := sorted(before & time & kept):
        raise OpError(
            "A212",
            f"a value that has seen the time axis `{met[0]}` whole meets one that still has it",
            help="later positions would leak into earlier ones",
        )
    seen = op.looks_ahead(*inputs) & time
    if ahead := sorted(seen & kept):
        raise OpError(
            "A208",
            f"`{op.name}` looks ahead along the time axis `{ahead[0]}`",
            help="time is causal: call the axis `n` if the network sees it whole",
        )
    return tuple(replace(type_, lost=type_.lost | before | seen) for type_ in types)


def _check_starts(op: Primitive, inputs: Sequence[Any]) -> None:
    """Refuse an `Init` that cannot start the weight that it is for."""
    for hyper, leaf in (("init", "weight"), ("init_bias", "bias")):
        start: Any = getattr(op, hyper) if hyper in type(op).model_fields else None
        if start is not None and hasattr(start, "check") and leaf in (params := op.params(*inputs)):
            try:
                start.check(params[leaf].names)
            except OpError as failure:
                failure.about = hyper
                raise


def called(op: Primitive) -> "Graph | None":
    """The graph that an operation calls, or of whose weights it keeps hold."""
    op = op.op if isinstance(op, Kept) else op
    return op.graph if isinstance(op, Call) else None


class Graph:
    """A directed acyclic multigraph of nodes. Built by `add`, each node after those that it reads, so that the order of
    the ids is the lexicographical topological order in which it is iterated.
    """

    def __init__(self, name: str, span: Span = BUILTIN) -> None:
        self.name = name
        self.span = span
        self.doc = ""  # the docstring of the block
        self.hypers: dict[
            str, Any
        ] = {}  # numbers that the block was called with: names for what differs between instances
        self.inputs: dict[str, Value] = {}
        self.outputs: list[tuple[str, Value]] = []
        self.losses: dict[str, list[Value]] = {}  # of a model: auxiliary losses by name, in order
        self.exits: list[tuple[str, Value, Value]] = []  # of a model: (name, value, who leaves with it)
        self.remarks: dict[int, str] = {}  # why nodes are as they are, by id
        self.layers: list[str] = []  # layer ports: modules that the caller lends, labels `@port`
        self._nodes: list[Node] = []
        self._operands: list[list[tuple[str, Value]]] = []  # of each node
        self._users: dict[tuple[int, int], list[tuple[int, str]]] = {}  # (node, argument) by (producer, output)
        self._names: dict[tuple[int, int], str] = {}  # the user's names of values, by (node, output)

    def blank(self) -> "Graph":
        """An empty graph of the same name and face: the inputs are still to be added."""
        made = Graph(self.name, self.span)
        made.doc, made.hypers, made.layers = self.doc, self.hypers, self.layers
        return made

    # ---- building
    def add(
        self,
        op: Primitive,
        operands: Sequence[tuple[str, Value]] = (),
        *,
        facts: Facts | None = None,
        span: Span = BUILTIN,
        label: str | None = None,
        name: str | None = None,
        types: tuple[TensorType, ...] | None = None,
    ) -> tuple[Value, ...]:
        """Add an operation on (argument, value) pairs and return its outputs. Types come from the operation; `types`
        are those that it is known to have made of such operands.
        """
        assert all(value.graph is self for _, value in operands), "a value of another graph"
        if types is None:
            given = self.arguments(op, [(argument, value.type) for argument, value in operands])
            types = infer(op, facts or Facts(), given)
        node = Node(len(self._nodes), op, types, span, label, name)
        self._nodes.append(node)
        self._operands.append(_in_order(op, operands))
        for argument, value in operands:
            self._users.setdefault((value.node, value.output), []).append((node.id, argument))
        return tuple(Value(self, node.id, i, type_) for i, type_ in enumerate(types))

    def add_input(self, port: str, type_: TensorType, span: Span = BUILTIN) -> Value:
        """A new input at the end."""
        (value,) = self.add(Input(port=port, type=type_), span=span, name=port)
        self.inputs[port] = value
        return value

    def label(self, value: Value, label: str) -> None:
        """Name the weights of the node that made a value."""
        self._nodes[value.node] = replace(self.node(value.node), label=label)

    def rename(self, value: Value, name: str) -> None:
        """Remember the user's name of a value, the first that it gets."""
        self._names.setdefault((value.node, value.output), name)
        node = self.node(value.node)
        if node.name is None and len(node.types) == 1:
            self._nodes[value.node] = replace(node, name=name)

    def name_of(self, value: Value) -> str | None:
        """The user's name of a value."""
        return self._names.get((value.node, value.output), self.node(value.node).name)

    @staticmethod
    def arguments(op: Primitive, operands: Iterable[tuple[str, Any]]) -> list[Any]:
        """Operands in the order of `op.inputs`: None for an absent optional one, a tuple for a variadic one. A call
        takes them as they come.
        """
        given = list(operands)
        if isinstance(op, Call | Foreign | Scan):
            return [value for _, value in given]
        found = dict(given)
        return [
            tuple(value for argument, value in given if argument.startswith(f"{port[1:]}."))
            if port.startswith("*")
            else found.get(port.removesuffix("?"))
            for port in op.inputs
        ]

    # ---- reading
    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def deep(self) -> Iterator[tuple["Graph", Node]]:
        """The nodes, and those of the bodies of scans, which share its labels, each with its graph."""
        for node in self:
            yield self, node
            if isinstance(node.op, Scan):
                yield from node.op.graph.deep()

    def node(self, id: int) -> Node:
        return self._nodes[id]

    def results(self) -> list[Value]:
        """What the graph is run for: outputs, losses, exits and who leaves by them."""
        left = [value for _, a, b in self.exits for value in (a, b)]
        return [*(v for _, v in self.outputs), *(v for values in self.losses.values() for v in values), *left]

    @property
    def last(self) -> Node:
        """The node that was added last."""
        return self._nodes[-1]

    def producer(self, value: Value) -> Node:
        return self.node(value.node)

    def operands(self, node: Node) -> list[tuple[str, Value]]:
        """(argument, value) pairs in the order in which they were given."""
        return self._operands[node.id]

    def users(self, value: Value) -> list[tuple[Node, str]]:
        """(node, argument) pairs that read the value; graph outputs are not among them."""
        return [
            (self.node(user), argument) for user, argument in sorted(self._users.get((value.node, value.output), ()))
        ]

    @property
    def net(self) -> "nx.MultiDiGraph[int]":
        """The graph for NetworkX: nodes are ids with their `node`, the key of an edge is (output, argument)."""
        import networkx as nx

        net: nx.MultiDiGraph[int] = nx.MultiDiGraph()
        for node in self:
            net.add_node(node.id, node=node)
            for argument, value in self.operands(node):
                net.add_edge(value.node, node.id, key=(value.output, argument))
        return net

    def input_types(self, node: Node) -> list[Any]:
        """The types as `Primitive` methods take them."""
        return self.arguments(node.op, [(argument, value.type) for argument, value in self.operands(node)])

    def params(self, node: Node) -> dict[str, Param]:
        """The weights that a node makes or shares by leaf name."""
        return dict(node.op.params(*self.input_types(node))) if not isinstance(node.op, Call) else {}

    def weights(self, prefix: str = "") -> Iterator[tuple[str, Param, Node]]:
        """Every weight once, as (path in the state_dict, parameter, node), in the order of the state_dict: those of the
        block itself, then those of its layers as they appear.
        """
        for label, graph, node in sorted(self.makers(), key=self._rank):
            if (inner := called(node.op)) is not None:
                yield from inner.weights(f"{prefix}{label}.")
            else:
                yield from (
                    (f"{prefix}{label}{'.' if leaf else ''}{leaf}", p, node) for leaf, p in graph.params(node).items()
                )

    @staticmethod
    def _rank(maker: tuple[str, "Graph", Node]) -> int:
        """A module of PyTorch names its parameters first, then its buffers, then what its modules hold."""
        label, _, node = maker
        return int(node.op.buffer) if isinstance(node.op, Parameter) and "." not in label else 2

    def makers(self) -> Iterator[tuple[str, "Graph", Node]]:
        """Every label of the graph with the node that says what it holds (of this graph, or of one that borrows the
        layer) once, in order; what a call borrows comes before what it has.
        """
        own = {node.label for _, node in self.deep() if not isinstance(node.op, WeightOf)}
        seen: set[str] = set()
        for holder, node in self.deep():
            found: list[tuple[str, tuple[Graph, Node]]] = []
            if isinstance(node.op, Call):
                found += [
                    (label, lent)
                    for port, label in node.op.layers
                    if label not in own and (lent := node.op.graph.lent(port))
                ]
            if node.label and not isinstance(node.op, WeightOf):
                found.append((node.label, (holder, node)))
            for label, (graph, maker) in found:
                if not label.startswith("@") and label not in seen:
                    seen.add(label)
                    yield label, graph, maker

    def lent(self, port: str) -> tuple["Graph", Node] | None:
        """The node that says what a layer port holds, here or in what is called, with its graph."""
        for holder, node in self.deep():
            if node.label == f"@{port}" and not isinstance(node.op, WeightOf):
                return holder, node
            if not isinstance(node.op, Call):
                continue
            for inner, label in node.op.layers:
                found: tuple[Graph, Node] | None = node.op.graph.lent(inner) if label == f"@{port}" else None
                if found is not None:
                    return found
        return None

    @cached_property
    def calls(self) -> list["Graph"]:
        """The distinct graphs that it calls, or holds, in order. Read once the graph is complete."""
        found = (called(node.op) for _, node in self.deep())
        return list({graph.digest: graph for graph in found if graph is not None}.values())

    def children_first(self) -> Iterator["Graph"]:
        """All distinct graphs that it calls, they call ..., each after those that it calls; itself is the last."""
        seen: set[str] = set()
        stack = [(self, iter(self.calls))]
        while stack:
            part, rest = stack[-1]
            child = next((c for c in rest if c.digest not in seen), None)
            if child is not None:
                seen.add(child.digest)
                stack.append((child, iter(child.calls)))
            else:
                stack.pop()
                yield part

    @cached_property
    def digest(self) -> str:
        """A hash of the content: equal for graphs that compute the same in the same way under the same names. Read once
        the graph is complete.
        """
        return hashlib.sha256(self.text().encode()).hexdigest()

    # ---- text and checks
    def text(self) -> str:
        """The graph as text, one line a node; blocks are named by their digest."""
        lines = [f"graph {self.name}({', '.join(f'{port}: {value.type}' for port, value in self.inputs.items())})"]
        lines += [f"  {self._line(node)}" for node in self]
        results = ", ".join(f"{name or i} = {_ref(value)}" for i, (name, value) in enumerate(self.outputs))
        lines += [f"  loss {name} = {', '.join(map(_ref, values))}" for name, values in self.losses.items()]
        return "\n".join([*lines, f"  return {results}"])

    def _line(self, node: Node) -> str:
        targets = ", ".join(f"%{node.id}{f'.{i}' if i else ''}: {type_}" for i, type_ in enumerate(node.types))
        operands = ", ".join(f"{argument} = {_ref(value)}" for argument, value in self.operands(node))
        label = f" as {node.label}" if node.label else ""
        if isinstance(node.op, Scan):
            body = node.op.graph.text().replace("\n", "\n  ")
            label = f" {{\n    {body}\n  }}"
        layers = f" with {dict(node.op.layers)}" if isinstance(node.op, Call) and node.op.layers else ""
        return f"{targets} = {node.op}{f' [{operands}]' if operands else ''}{layers}{label}"

    def verify(self) -> None:
        """Restate every type from the operations, check the structure; an AssertionError names the node at fault."""
        import networkx as nx

        if list(nx.lexicographical_topological_sort(self.net)) != [node.id for node in self]:
            raise AssertionError(f"{self.name}: the nodes are not in topological order")
        for node in self:
            types = infer(node.op, Facts(), self.input_types(node))
            if types != node.types:
                raise AssertionError(f"{self.name}: {self._line(node)} has the types {', '.join(map(str, types))}")
        for graph in (*self.calls, *(node.op.graph for node in self if isinstance(node.op, Scan))):
            graph.verify()


def _ports(op: Primitive) -> Sequence[str]:
    if isinstance(op, Call | Scan):
        return list(op.graph.inputs)
    return list(op.ports) if isinstance(op, Foreign) else op.inputs


def _ref(value: Value) -> str:
    return f"%{value.node}{f'.{value.output}' if value.output else ''}"


def _in_order(op: Primitive, operands: Sequence[tuple[str, Value]]) -> list[tuple[str, Value]]:
    """Operands as the operation lists its inputs."""
    if len(operands) < 2:
        return list(operands)
    order = {port.strip("*?"): i for i, port in enumerate(_ports(op))}

    def place(operand: tuple[str, Value]) -> tuple[int, int]:
        base, _, index = operand[0].partition(".")
        return order.get(base, len(order)), int(index or 0)

    return sorted(operands, key=place)


def listing(graph: Graph) -> str:
    """The text of a graph and of every distinct block in it, each once under its digest, after those that it calls."""
    found: dict[str, str] = {}

    def collect(part: Graph) -> None:
        for inner in part.calls:
            if inner.digest not in found:
                collect(inner)
        found[part.digest] = f"# {part.digest[:8]}\n{part.text()}\n"

    collect(graph)
    return "\n".join(found.values())


def numbers(graph: Graph) -> dict[str, Size]:
    """The sizes of the input axes of a graph by axis name: the other names for what differs between instances."""
    return {axis.name: axis.size for value in graph.inputs.values() for axis in value.type}
