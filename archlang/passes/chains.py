"""Operations on single elements that follow one another, and a norm among them, as one: what a kernel takes in one pass
over memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from archlang.ir import Chain, Graph, Input, Node, Rebuild, Value, WeightOf, kept
from archlang.primitive import Param, axes_of
from archlang.primitives import CONSTRUCTS
from archlang.rewrite import Event, Record, describe, everywhere
from archlang.shapes import Axis, TensorType, axis
from archlang.sizes import Poly, total

NORMS = frozenset("layer_norm rms_norm l2_norm softmax".split())  # along one axis, which they keep
SINGLE = frozenset(
    "add sub mul div pow maximum minimum exp log log2 log1p expm1 sqrt rsqrt sin cos erf reciprocal square neg abs"
    " clamp relu relu6 sigmoid tanh silu swish gelu gelu_tanh quick_gelu mish softsign hard_sigmoid hard_swish"
    " hard_tanh leaky_relu elu softplus layer_scale".split()
)
POWERS = (2, 3, 0.5, -0.5, -1)
MOST, MOST_INPUTS, MOST_NORMS = 24, 8, 3  # operations, inputs and norms of a chain: what is read stays in registers


def pointwise_chains(graph: Graph, record: Record) -> Graph:
    """f(g(x)), for each element or row at once."""
    return everywhere(graph, lambda part: _chained(part, record))


@dataclass(slots=True)
class Region:
    """Operations that can run together, all before the first that reads what they make."""

    graph: Graph
    nodes: list[Node] = field(default_factory=list)

    @property
    def ids(self) -> set[int]:
        return {node.id for node in self.nodes}

    @property
    def given(self) -> list[Value]:
        """What they read from outside, each once."""
        own = self.ids
        values = (value for node in self.nodes for _, value in self.graph.operands(node))
        return list({(v.node, v.output): v for v in values if v.node not in own}.values())

    @property
    def made(self) -> list[Node]:
        """Those whose results are read outside."""
        own, results = self.ids, {value.node for value in self.graph.results()}
        return [n for n in self.nodes if n.id in results or any(u.id not in own for u in self._users(n))]

    @property
    def readers(self) -> list[int]:
        """Who reads their results outside."""
        return [u.id for n in self.nodes for u in self._users(n) if u.id not in self.ids]

    @property
    def place(self) -> int:
        """The node that they stand before, or the last of them."""
        return min([*self.readers, max(self.ids)])

    def _users(self, node: Node) -> list[Node]:
        return [user for user, _ in self.graph.users(Value(self.graph, node.id, 0, node.types[0]))]

    @property
    def axis(self) -> str | None:
        """The axis that lies last: that of a norm, of weights, of what is repeated; empty where all inputs are alike,
        None where no axis serves.
        """
        norms = {_on(self.graph, node) for node in self.nodes if node.op.name in NORMS}
        weights = {a.name for x in self._types() for a in x.axes if len(x.axes) == 1}
        partial = [x for x in self._types() if set(x.axes) != self.space]
        if not norms and not partial:
            return ""
        names = norms or weights or {"c"}
        fits = len(norms) <= 1 and any(set(x.axes) == self.space for x in self._types())
        (axis,) = names if len(names) == 1 else ("",)
        # along several axes of space a kernel would read apart what lies side by side
        lines = bool(norms) or sum(a.role == "space" for a in self.space) < 2
        return axis if fits and lines and any(a.name == axis for a in self.space) else None

    @property
    def space(self) -> set[Axis]:
        return set(self.nodes[0].types[0].axes)

    def _types(self) -> Iterator[TensorType]:
        yield from (value.type for value in self.given)
        for node in self.nodes:
            x = self.graph.operands(node)[0][1].type
            yield from (TensorType(tuple(x[name] for name in p.names), x.dtype) for p in node.op.params(x).values())

    @property
    def holds(self) -> bool:
        """Whether all that they read is there before anyone reads what they make, and one kernel is enough."""
        few = len(self.nodes) <= MOST and len(list(self._types())) <= MOST_INPUTS
        norms = sum(node.op.name in NORMS for node in self.nodes)
        before = max((value.node for value in self.given), default=-1)
        return (
            few
            and norms <= MOST_NORMS
            and before < min(self.readers, default=len(self.graph))
            and self.axis is not None
        )


def _on(graph: Graph, node: Node) -> str:
    """The axis of a norm."""
    op: Any = node.op
    return axes_of(op.on, graph.operands(node)[0][1].type)[0]


# ---- which operations
def _regions(graph: Graph) -> list[Region]:
    """The operations that run together, as many at once as one kernel takes."""
    found: dict[int, Region] = {}
    fixed = _determined(graph)
    for node in graph:
        if node.id in fixed or not fits(graph, node):
            continue
        region = Region(graph, [node])
        for _, value in graph.operands(node):
            before = found.get(value.node)
            if before is not None and node.id not in before.ids and before.space == region.space:
                both = Region(graph, sorted({*before.nodes, *region.nodes}, key=lambda n: n.id))
                region = both if both.holds else region
        if region.holds:
            found |= dict.fromkeys(region.ids, region)
    several = {id(region): region for region in found.values() if len(region.nodes) > 1}
    return _in_order(list(several.values()))


def _in_order(regions: Sequence[Region]) -> list[Region]:
    """The regions by their places, without those that read what stands no earlier."""
    place = {id: region.place for region in regions for id in region.ids}
    ready = [r for r in regions if all(place.get(value.node, -1) < r.place for value in r.given)]
    return sorted(ready, key=lambda region: region.place)


def _determined(graph: Graph) -> set[int]:
    """What follows from weights and sizes alone: it is small, and often worked out once."""
    found: set[int] = set()
    for node in graph:
        if not isinstance(node.op, Input) and all(value.node in found for _, value in graph.operands(node)):
            found.add(node.id)
    return found


def fits(graph: Graph, node: Node) -> bool:
    """Whether a kernel can hold an operation."""
    op: Any = node.op
    if op.name not in SINGLE | NORMS or node.types[0].dtype != "float" or not node.types[0].axes:
        return False
    types = [value.type for _, value in graph.operands(node)]
    if any(type_.dtype != "float" for type_ in types) or any(isinstance(value, Poly) for _, value in op):
        return False
    if op.name == "pow":
        return op.left is None and op.right in POWERS
    lone = op.name not in NORMS | {"layer_scale"} or len(axes_of(op.on, types[0])) == 1
    return lone and (not op.params(*types) or not (node.label or "@").startswith("@"))


# ---- as one
def _chained(graph: Graph, record: Record) -> Graph:
    regions = _regions(graph)
    if not regions:
        return graph
    rebuild, gone = Rebuild(graph), {id for region in regions for id in region.ids}
    for node in graph:
        while regions and regions[0].place == node.id:
            _put(rebuild, regions.pop(0), record)
        if node.id not in gone:
            rebuild.copy(node)
        elif node.op.params(*graph.input_types(node)):
            rebuild.new.add(kept(graph, node), span=node.span, label=node.label)
    return rebuild.finish()


def _put(rebuild: Rebuild, region: Region, record: Record) -> None:
    """The chain in the place of its operations."""
    body = Body(rebuild, region.graph)
    for value in region.given:
        body.give(value, rebuild.value(value), _called(region.graph, value))
    for node in region.nodes:
        body.add(node)
    body.graph.outputs = [("", body.values[node.id, 0]) for node in region.made]
    operands = [(f"xs.{i}", value) for i, value in enumerate(body.operands)]
    rebuild.uses.update((value.node, value.output) for value in body.operands)
    chain = Chain(graph=body.graph, made_of=tuple(node.op.name for node in region.nodes), axis=region.axis or "")
    values = rebuild.new.add(chain, operands, span=region.nodes[-1].span)
    for node, value in zip(region.made, values, strict=True):
        rebuild.put(node, [value])
        if len(values) > 1:
            rebuild.new.rename(value, _called(region.graph, Value(region.graph, node.id, 0, value.type)))
    inner = [node for node in region.nodes if node not in region.made]
    removed = tuple(describe(region.graph, node) for node in region.nodes)
    added = (describe(rebuild.new, rebuild.new.last),)
    saved = total(node.types[0].bytes for node in inner)
    place = (record.stage, "pointwise_chains", region.graph.name, region.nodes[-1].span)
    record.events.append(Event(*place, removed=removed, added=added, saved=saved))


class Body:
    """The graph of a chain of operations of `old` under construction: weights become inputs like others."""

    def __init__(self, rebuild: Rebuild, old: Graph) -> None:
        self._rebuild, self._old = rebuild, old
        self.graph = Graph("chain")
        self.values: dict[tuple[int, int], Value] = {}  # by those of the graph around it
        self.operands: list[Value] = []

    def give(self, old: Value | None, new: Value, name: str) -> Value:
        """An input."""
        count, port = 1, name
        while port in self.graph.inputs:
            count, port = count + 1, f"{name}_{count + 1}"
        made = self.graph.add_input(port, new.type)
        self.operands.append(new)
        if old is not None:
            self.values[old.node, old.output] = made
        return made

    def add(self, node: Node) -> None:
        """An operation, its weights multiplied and added by themselves."""
        operands = [(port, self.values[v.node, v.output]) for port, v in self._old.operands(node)]
        weights = {leaf: self.weight(node, leaf, p) for leaf, p in self._old.params(node).items()}
        y = operands[0][1]
        if node.op.name != "layer_scale":
            op = node.op.model_copy(update={"affine": False}) if weights else node.op
            (y,) = self.graph.add(op, operands, types=node.types)
        for leaf, weight in weights.items():
            name = "add" if leaf == "bias" else "mul"
            (y,) = self.graph.add(CONSTRUCTS[name](), [("a", y), ("b", weight)], types=node.types)  # type: ignore[arg-type]
        self.values[node.id, 0] = y
        if node.name:
            self.graph.rename(y, node.name)

    def weight(self, node: Node, leaf: str, param: Param) -> Value:
        """A weight of an operation."""
        axes = tuple(axis(name, size) for name, size in zip(param.names, param.shape, strict=True))
        weight = self._rebuild.add(WeightOf(leaf=leaf, type=TensorType(axes)), (), node, node.label)
        return self.give(None, weight, leaf)


def _called(graph: Graph, value: Value) -> str:
    """A name for an input: the user's, that of the layer, or of the operation."""
    node = graph.producer(value)
    label = (node.label or "").rpartition(".")[2]
    name = graph.name_of(value) or (label if label.isidentifier() else "") or node.op.name
    return name if name.isidentifier() else "x"
