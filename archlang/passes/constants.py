"""Constants once: what follows from sizes alone, or from these and the weights of a layer that several blocks share, is
made once in a forward pass, and handed to the blocks that use it.

Nothing is kept from one pass to the next, so there is nothing that a move to another device, a cast, a copy, a pickle,
an exporter or a CUDA graph could find stale.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from archlang.facts import Facts
from archlang.ir import Call, Graph, Input, Node, Rebuild, Value
from archlang.primitive import Primitive
from archlang.rewrite import Record, everywhere
from archlang.shapes import TensorType
from archlang.sizes import symbols


def constants_once(graph: Graph, record: Record) -> Graph:
    """What operations need of the sizes alone, made by the model, once for equal ones."""
    return _Lift(everywhere(graph, lambda part: _split(part, record)), record).graph()


def _split(graph: Graph, record: Record) -> Graph:
    """The operations of one graph apart from what they need of sizes alone."""
    rebuild, made = Rebuild(graph), dict[Primitive, Value]()
    for node in graph:
        parts = node.op.split(*graph.input_types(node)) if not isinstance(node.op, Call) else None
        if parts is None:
            rebuild.copy(node)
            continue
        start, (constant, reader) = len(rebuild.new), parts
        if constant not in made:
            made[constant] = rebuild.add(constant, (), node)
            rebuild.new.rename(made[constant], constant.name)
        operands = [*rebuild.operands(node), (reader.inputs[-1], made[constant])]
        rebuild.put(node, [rebuild.add(reader, operands, node, node.label)])
        record.fired("constants_once", rebuild.new, node, (), list(rebuild.new)[start:])
    return rebuild.finish() if made else graph


@dataclass(frozen=True, slots=True)
class Constant:
    """What a forward pass can make once: an operation without inputs, and the label of the layer whose weights it
    reads, as the graph at hand knows it.
    """

    op: Primitive
    label: str | None = None

    @property
    def lent(self) -> bool:
        """Whether the layer is that of a caller."""
        return self.label is not None and self.label.startswith("@")

    def outside(self, call: Call) -> "Constant":
        """The same as the caller of a block knows it."""
        return replace(self, label=dict(call.layers)[self.label[1:]]) if self.label and self.lent else self

    @property
    def name(self) -> str:
        """`near`, as its layer, or `turns`, as the operation."""
        return (self.label or self.op.name).lstrip("@").replace(".", "_")

    @property
    def type(self) -> TensorType:
        made = self.op.infer(Facts())
        assert isinstance(made, TensorType)
        return made


class _Lift:
    """Takes the constants that are made more than once out of the blocks of a model."""

    def __init__(self, root: Graph, record: Record) -> None:
        self.root, self.record = root, record
        self._constants: dict[str, dict[int, Constant]] = {}
        self._times: dict[str, Counter[Constant]] = {}
        self._wanted: dict[str, list[Constant]] = {}
        self._rebuilds: dict[str, Graph] = {}
        self._lifted: set[tuple[str, Constant]] = set()  # by the graph that used to make it

    def graph(self) -> Graph:
        for part in self.root.children_first():
            told = {name for value in part.inputs.values() for axis in value.type for name in symbols(axis.size)}
            for constant, times in self.times(part).items():
                if times > 1 and self.owns(part, constant) and _symbols(constant) <= told:
                    self._lift(part, constant)
        return self._rebuilt(self.root)

    def owns(self, part: Graph, constant: Constant) -> bool:
        """Whether a graph is where it is made: the layer is its own, or it is the model."""
        return not constant.lent and (constant.label is not None or part is self.root)

    def constants(self, part: Graph) -> dict[int, Constant]:
        """The constants that a graph makes itself, by node."""
        if part.digest not in self._constants:
            made = ((node, _constant(part, node)) for node in part)
            self._constants[part.digest] = {node.id: constant for node, constant in made if constant}
        return self._constants[part.digest]

    def times(self, part: Graph) -> Counter[Constant]:
        """How often a run of a graph makes each constant, its own and those of its blocks."""
        if part.digest not in self._times:
            found = Counter(self.constants(part).values())
            for call in _calls(part):
                for constant, times in self.times(call.graph).items():
                    if constant.lent or constant.label is None:
                        found[constant.outside(call)] += times
            self._times[part.digest] = found
        return self._times[part.digest]

    def _lift(self, part: Graph, constant: Constant) -> None:
        """Take a constant out of a graph and of its blocks."""
        if constant not in self.times(part) or (part.digest, constant) in self._lifted:
            return
        self._lifted.add((part.digest, constant))
        for call in _calls(part):
            for inner in self.times(call.graph):
                if (inner.lent or inner.label is None) and inner.outside(call) == constant:
                    self._lift(call.graph, inner)

    def wanted(self, part: Graph) -> list[Constant]:
        """The lifted constants that a graph and its blocks use, in order."""
        if part.digest not in self._wanted:
            found: dict[Constant, None] = {}
            for node in part:
                found |= dict.fromkeys(self.used(part, node))
            self._wanted[part.digest] = list(found)
        return self._wanted[part.digest]

    def used(self, part: Graph, node: Node) -> list[Constant]:
        """The lifted constants that a node makes, or that the block which it calls is given."""
        if isinstance(node.op, Call):
            return [constant.outside(node.op) for constant in self.ports(node.op.graph)]
        constant = self.constants(part).get(node.id)
        return [constant] if constant and (part.digest, constant) in self._lifted else []

    def ports(self, part: Graph) -> dict[Constant, str]:
        """The inputs through which a block gets its constants: `turns`, `turns2` ..."""
        found: dict[Constant, str] = {}
        for constant in self.wanted(part):
            if not self.owns(part, constant):
                names = (f"{constant.name}{number if number > 1 else ''}" for number in count(1))
                found[constant] = next(name for name in names if name not in {*part.inputs, *found.values()})
        return found

    def _rebuilt(self, part: Graph) -> Graph:
        if part.digest not in self._rebuilds:
            changed = any(self._rebuilt(call.graph) is not call.graph for call in _calls(part))
            self._rebuilds[part.digest] = _Part(self, part).graph() if changed or self.wanted(part) else part
        return self._rebuilds[part.digest]

    def rebuilt(self, call: Call) -> Call:
        """A call of the block as it is without its constants."""
        inner = self._rebuilt(call.graph)
        layers = tuple((port, label) for port, label in call.layers if port in inner.layers)
        return call if inner is call.graph else call.model_copy(update={"graph": inner, "layers": layers})


class _Part:
    """Writes one graph with its constants as inputs. What it makes itself comes first, or where its layer is used."""

    def __init__(self, lift: _Lift, part: Graph) -> None:
        self.lift, self.part, self.rebuild = lift, part, Rebuild(part)
        self.values: dict[Constant, Value] = {}

    def graph(self) -> Graph:
        nodes = list(self.part)
        for node in nodes:
            if isinstance(node.op, Input):
                self.rebuild.copy(node)
        for constant, port in self.lift.ports(self.part).items():
            self.values[constant] = self.rebuild.new.add_input(port, constant.type, nodes[0].span)
        for constant in self.lift.wanted(self.part):
            if constant.label is None and constant not in self.values:
                self.make(constant, nodes[0])
        for node in nodes:
            if not isinstance(node.op, Input):
                self.visit(node)
        self.rebuild.new.layers = [port for port in self.part.layers if f"@{port}" in _labels(self.rebuild.new)]
        return self.rebuild.finish()

    def visit(self, node: Node) -> None:
        used = self.lift.used(self.part, node)
        for constant in used:
            if constant not in self.values:
                self.make(constant, node)
        if isinstance(node.op, Call):
            ports = self.lift.ports(node.op.graph).values()
            given = [(port, self.values[constant]) for port, constant in zip(ports, used, strict=True)]
            self.rebuild.copy(node, self.lift.rebuilt(node.op), given)
        elif used:
            self.lift.record.fired("constants_once", self.part, node, [node], ())
            self.rebuild.put(node, [self.values[used[0]]])
        else:
            self.rebuild.copy(node)

    def make(self, constant: Constant, at: Node) -> None:
        value = self.values[constant] = self.rebuild.add(constant.op, (), at, constant.label)
        self.rebuild.new.rename(value, constant.name)
        new = self.rebuild.new
        self.lift.record.fired("constants_once", new, at, (), [new.producer(value)])


def _constant(part: Graph, node: Node) -> Constant | None:
    """What a node makes, where that follows from sizes and from weights of a layer that others may share."""
    op = node.op.alone(*part.input_types(node))
    if op is None:
        return None
    if not op.params():
        return Constant(op)
    label = node.label
    known = label is not None and (label[1:] in part.layers or not label.startswith("@"))
    return Constant(op, label) if known else None


def _calls(part: Graph) -> Iterator[Call]:
    return (node.op for node in part if isinstance(node.op, Call))


def _symbols(constant: Constant) -> set[str]:
    """The free sizes of a constant."""
    return {name for axis in constant.type for name in symbols(axis.size)}


def _labels(graph: Graph) -> set[str | None]:
    """The labels of the layers that a graph applies, reads or lends."""
    nodes = [node for _, node in graph.deep()]
    lent = {label for node in nodes if isinstance(node.op, Call) for _, label in node.op.layers}
    return {*lent, *(node.label for node in nodes)}
