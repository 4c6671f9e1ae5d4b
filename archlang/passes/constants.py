"""Constants once: what follows from sizes alone is made once in a forward pass, and handed to the blocks that use it.

Nothing is kept from one pass to the next, so there is nothing that a move to another device, a cast, a copy, a pickle,
an exporter or a CUDA graph could find stale.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from itertools import count

from archlang.facts import Facts
from archlang.ir import Call, Graph, Input, Node, Rebuild, Value
from archlang.primitive import Primitive
from archlang.rewrite import Record, everywhere
from archlang.shapes import TensorType
from archlang.sizes import symbols


def constants_once(graph: Graph, record: Record) -> Graph:
    """What operations need of the sizes alone, made by the model, once for equal ones."""
    return _Lift(everywhere(graph, lambda part: _split(part, record))).graph()


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


class _Lift:
    """Takes the constants that are made more than once out of the blocks of a model."""

    def __init__(self, root: Graph) -> None:
        self.root = root
        self._known: dict[str, Graph] = {}
        self._wanted: dict[str, list[Primitive]] = {}

    def graph(self) -> Graph:
        return self._rebuilt(self.root) if self.lifted else self.root

    @cached_property
    def lifted(self) -> frozenset[Primitive]:
        """The constants that one forward pass makes more than once, and whose sizes the inputs of the model tell."""
        runs, made = Counter({self.root.digest: 1}), Counter[Primitive]()
        for part in reversed(list(self.root.children_first())):
            for node in part:
                if isinstance(node.op, Call):
                    runs[node.op.graph.digest] += runs[part.digest]
                elif node.op.constant:
                    made[node.op] += runs[part.digest]
        told = {name for value in self.root.inputs.values() for axis in value.type for name in symbols(axis.size)}
        return frozenset(
            op
            for op, times in made.items()
            if times > 1 and {n for axis in _type(op) for n in symbols(axis.size)} <= told
        )

    def wanted(self, part: Graph) -> list[Primitive]:
        """The lifted constants that a graph and its blocks use, in order."""
        if part.digest not in self._wanted:
            found: dict[Primitive, None] = {}
            for node in part:
                if isinstance(node.op, Call):
                    found |= dict.fromkeys(self.wanted(node.op.graph))
                elif node.op.constant and node.op in self.lifted:
                    found[node.op] = None
            self._wanted[part.digest] = list(found)
        return self._wanted[part.digest]

    def ports(self, part: Graph) -> dict[Primitive, str]:
        """The inputs through which a block gets its constants: `turns`, `turns2` ..."""
        found: dict[Primitive, str] = {}
        for op in self.wanted(part):
            names = (f"{op.name}{number if number > 1 else ''}" for number in count(1))
            found[op] = next(name for name in names if name not in {*part.inputs, *found.values()})
        return found

    def _rebuilt(self, part: Graph) -> Graph:
        if part.digest not in self._known:
            self._known[part.digest] = self._with_ports(part) if self.wanted(part) else part
        return self._known[part.digest]

    def _with_ports(self, part: Graph) -> Graph:
        """The graph with its constants right after its inputs: new inputs of a block, nodes of the model."""
        rebuild, nodes = Rebuild(part), list(part)
        inputs = [node for node in nodes if isinstance(node.op, Input)]
        for node in inputs:
            rebuild.copy(node)
        values = dict(self._made(part, rebuild, nodes[0]))
        for node in (node for node in nodes if not isinstance(node.op, Input)):
            if node.op.constant and node.op in values:
                rebuild.put(node, [values[node.op]])
            elif isinstance(node.op, Call) and (ports := self.ports(node.op.graph)):
                inner = node.op.model_copy(update={"graph": self._rebuilt(node.op.graph)})
                rebuild.copy(node, inner, [(port, values[op]) for op, port in ports.items()])
            else:
                rebuild.copy(node)
        return rebuild.finish()

    def _made(self, part: Graph, rebuild: Rebuild, at: Node) -> Iterator[tuple[Primitive, Value]]:
        for op, port in self.ports(part).items():
            if part is self.root:
                value = rebuild.add(op, (), at)
                rebuild.new.rename(value, op.name)
            else:
                value = rebuild.new.add_input(port, _type(op), at.span)
            yield op, value


def _type(op: Primitive) -> TensorType:
    made = op.infer(Facts())
    assert isinstance(made, TensorType)
    return made
