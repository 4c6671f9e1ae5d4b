"""The meaning of a graph: every operation by its `reference`, on named axes. Slow; the oracle for all else."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from archlang.ir import Call, Graph, Input, Kept, Node, Parameter, Scan, Value, WeightOf
from archlang.named import Named
from archlang.primitive import AxisMap, Construct, Types
from archlang.shapes import Axis, TensorType, is_float
from archlang.sizes import Poly, Size, substitute, symbols


def run(graph: Graph, inputs: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs by name (by number where they have none), from tensors as declared and weights by path."""
    done = _started(graph, inputs, weights)
    pairs = zip(graph.outputs, done.outputs(), strict=True)
    return {name or str(i): result.to(value.type.names) for i, ((name, value), result) in enumerate(pairs)}


def run_training(graph: Graph, inputs: Mapping[str, Any], weights: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What a model gives in training, without the random noise of it: its outputs, its exits in order under `exits`,
    and its losses by name."""
    done = _started(graph, inputs, weights)
    done.outputs()
    outputs = [value for _, value in graph.outputs]
    if graph.exits:
        outputs = [value for name, value in graph.operands(graph.node(outputs[0].node)) if name == "x"]
    found = {"": outputs, "exits": [value for _, value, _ in graph.exits], **graph.losses}
    return {name: [done.value(value).to(value.type.names) for value in values] for name, values in found.items()}


def _started(graph: Graph, inputs: Mapping[str, Any], weights: Mapping[str, Any]) -> "_Run":
    given = {port: Named(tensor, graph.inputs[port].type.names) for port, tensor in inputs.items()}
    return _Run(graph, given, weights, _sizes_of(graph, given))


def _sizes_of(graph: Graph, given: Mapping[str, Named]) -> dict[str, int]:
    types = {port: graph.inputs[port].type for port in given}
    return bind_sizes(types, {port: tuple(x.to(types[port].names).shape) for port, x in given.items()})


def bind_sizes(types: Mapping[str, TensorType], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The free sizes that make the types have these shapes."""
    sizes: dict[str, int] = {}
    waiting = [
        (axis.size, length) for port, shape in shapes.items() for axis, length in zip(types[port], shape, strict=True)
    ]
    for _ in range(len(waiting)):
        for size, length in waiting:
            sizes |= _solve(substitute(size, sizes), length)
    for size, length in waiting:
        assert substitute(size, sizes) == length, f"a size is {length}, and must be {size}"
    return sizes


def _solve(size: Size, length: int) -> dict[str, int]:
    """The one unknown of a size that is linear in it."""
    terms = [(term, factor) for term, factor in size.terms if term] if isinstance(size, Poly) else []
    if len(terms) != 1 or len(terms[0][0]) != 1:
        return {}
    (((atom, power),), factor) = terms[0]
    if atom.arguments or power != 1:
        return {}
    assert isinstance(size, Poly)
    value = (length - dict(size.terms).get((), 0)) / factor
    return {atom.name: int(value)}


def concrete(value: Any, sizes: Mapping[str, int]) -> Any:
    """A type, operation or compile-time value with numbers for free sizes."""
    if isinstance(value, Poly):
        return substitute(value, sizes)
    if isinstance(value, Axis):
        return replace(value, size=substitute(value.size, sizes))
    if isinstance(value, TensorType):
        return replace(value, axes=tuple(concrete(axis, sizes) for axis in value))
    if isinstance(value, AxisMap):
        return AxisMap(tuple((name, concrete(item, sizes)) for name, item in value.items))
    if isinstance(value, tuple | list):
        return tuple(concrete(item, sizes) for item in value)
    if isinstance(value, dict):
        return {key: concrete(item, sizes) for key, item in value.items()}
    if isinstance(value, Construct) and not isinstance(value, Call | Scan):
        return value.model_copy(update={name: concrete(item, sizes) for name, item in value})
    return value


@dataclass
class _Run:
    graph: Graph
    given: Mapping[str, Named]
    weights: Mapping[str, Any]
    sizes: Mapping[str, int]
    prefix: str = ""
    layers: Mapping[str, str] = field(default_factory=dict)  # layer ports to paths
    values: dict[tuple[int, int], Named] = field(default_factory=dict)

    def outputs(self) -> list[Named]:
        for node in self.graph:
            results = self.node(node)
            for i, (result, type_) in enumerate(zip(results, node.types, strict=True)):
                assert set(result.names) == set(type_.names), (
                    f"{node.op} makes the axes {result.names}, not {type_.names}"
                )
                self.values[node.id, i] = result
        return [self.value(value) for _, value in self.graph.outputs]

    def value(self, value: Value) -> Named:
        """What a value of the graph is, once `outputs` was asked for."""
        return self.values[value.node, value.output]

    def path(self, label: str) -> str:
        """The path of a label from the root."""
        return self.layers[label[1:]] if label.startswith("@") else f"{self.prefix}{label}"

    def node(self, node: Node) -> list[Named]:
        op = node.op
        operands = [(name, self.values[value.node, value.output]) for name, value in self.graph.operands(node)]
        if isinstance(op, Input):
            return [self.given[op.port]]
        if isinstance(op, Kept):
            return []
        if isinstance(op, Parameter | WeightOf):
            leaf = f".{op.leaf}" if isinstance(op, WeightOf) else ""
            shape = [substitute(axis.size, self.sizes) for axis in op.type]
            return [Named(self.weights[f"{self.path(node.label or '')}{leaf}"].reshape(shape), op.type.names)]
        if isinstance(op, Call):
            return self.call(node, op, dict(operands))
        if isinstance(op, Scan):
            return self.scan(op, dict(operands))
        sizes = self.sizes_at(node)
        types = Types(concrete(tuple(self.graph.input_types(node)), sizes), concrete(node.types, sizes))
        weights = {leaf: self.weights[f"{self.path(node.label or '')}.{leaf}"] for leaf in self.graph.params(node)}
        results = concrete(op, sizes).reference(types, *Graph.arguments(op, operands), **weights)
        return [results] if isinstance(results, Named) else list(results)

    def call(self, node: Node, op: Call, given: Mapping[str, Named]) -> list[Named]:
        layers = {port: self.path(label) for port, label in op.layers}
        prefix = f"{self.path(node.label)}." if node.label else self.prefix
        return _Run(op.graph, given, self.weights, self.sizes_at(node), prefix, layers).outputs()

    def sizes_at(self, node: Node) -> Mapping[str, int]:
        """The free sizes at a node, with those that data has made of what it reads."""
        values = {str(i): value for i, (_, value) in enumerate(self.graph.operands(node))}
        types = {i: value.type for i, value in values.items()}
        if node.op.listed or all(symbols(axis.size) <= self.sizes.keys() for type_ in types.values() for axis in type_):
            return self.sizes
        shapes = {i: tuple(self.value(value).to(types[i].names).shape) for i, value in values.items()}
        return {**self.sizes, **bind_sizes(types, shapes)}

    # ---- one position after another
    def scan(self, op: Scan, given: Mapping[str, Named]) -> list[Named]:
        """What the body yields at each position, folded over the carries that one leaves to the next."""
        name, length = op.axis.name, int(str(substitute(op.axis.size, self.sizes)))
        state = {port: given[port] if port in given else self.start(op, port) for port in op.carries}
        rows = []
        for at in range(length)[:: -1 if op.reverse else 1]:
            here = {port: x.select(name, at) if port in op.each else x for port, x in given.items()}
            made, state = self.position(op, {**here, **state})
            rows.append(made)
        orders = [value.type.names for value in op.yields]
        return [
            Named(_stack([row[i].to(order) for row in (rows[::-1] if op.reverse else rows)]), (name, *order))
            for i, order in enumerate(orders)
        ]

    def position(self, op: Scan, given: Mapping[str, Named]) -> tuple[list[Named], dict[str, Named]]:
        """One position of a scan: what it yields there, and the carries that it leaves."""
        made = _Run(op.graph, given, self.weights, self.sizes, self.prefix, self.layers).outputs()
        return made[len(op.carries) :], dict(zip(op.carries, made, strict=False))

    def start(self, op: Scan, port: str) -> Named:
        """A carry that starts from a number."""
        import torch

        type_ = concrete(op.graph.inputs[port].type, self.sizes)
        exact = {"int": "int64"}.get(type_.dtype, type_.dtype)
        dtype = torch.float64 if is_float(type_.dtype) else getattr(torch, exact)
        return Named(torch.full([axis.size for axis in type_], op.starts[port], dtype=dtype), type_.names)


def _stack(rows: list[Any]) -> Any:
    import torch

    return torch.stack(rows)
