"""A graph made anew from another, node after node, with some of them replaced."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from archlang.ir.graph import Graph, Node, Value
from archlang.ir.operations import Call, Input, Kept, Parameter, Scan, WeightOf
from archlang.primitive import Primitive


class Rebuild:
    """A new graph that computes what the old one does. `copy` takes a node over; `put` says what stands for its results
    instead. Weights keep their names: a layer that is no longer applied is held for those who read its weights.
    """

    def __init__(self, old: Graph) -> None:
        self.old, self.new = old, old.blank()
        self.uses: Counter[tuple[int, int]] = Counter()  # how often a new value will be read
        self._made: dict[tuple[int, int], Value] = {}
        self._stands: dict[tuple[int, int], list[tuple[int, int]]] = {}  # what a new value stands for
        self._reads = _reads(old)

    def value(self, value: Value) -> Value:
        """What stands for a value of the old graph."""
        return self._made[value.node, value.output]

    def operands(self, node: Node) -> list[tuple[str, Value]]:
        """What stands for the operands of an old node."""
        return [(argument, self.value(value)) for argument, value in self.old.operands(node)]

    def copy(self, node: Node, op: Primitive | None = None, beside: Iterable[tuple[str, Value]] = ()) -> Node:
        """Take an old node over, maybe as another operation, with new values beside its operands."""
        made = self.apply(op or node.op, [*self.operands(node), *beside], node)
        self.put(node, made)
        return self.new.node(made[0].node) if made else self.new.last

    def add(self, op: Primitive, operands: Iterable[tuple[str, Value]], at: Node, label: str | None = None) -> Value:
        """A new node on new values, in the place of the source where another stands."""
        given = list(operands)
        self.uses.update((value.node, value.output) for _, value in given)
        return self.new.add(op, given, span=at.span, label=label)[0]

    def put(self, node: Node, values: Sequence[Value]) -> None:
        """These new values stand for the results of an old node, and get their names."""
        for output, value in enumerate(values):
            self._made[node.id, output] = value
            self._stands.setdefault((value.node, value.output), []).append((node.id, output))
            self.uses[value.node, value.output] += self._reads[node.id, output]
            if name := self.old.name_of(Value(self.old, node.id, output, node.types[output])):
                self.new.rename(value, name)

    def move(self, old: Value, new: Value) -> None:
        """`new` stands for what `old`, a value of the new graph, stood for until now."""
        if new == old:
            return
        keys = self._stands.pop((old.node, old.output), [])
        self._stands.setdefault((new.node, new.output), []).extend(keys)
        for key in keys:
            self._made[key] = new
            self.uses[new.node, new.output] += self._reads[key]
            self.uses[old.node, old.output] -= self._reads[key]
        if name := self.new.name_of(old):
            self.new.rename(new, name)
        self._release(self.new.producer(old))

    def reads(self, node: Node) -> int:
        """How often results of a new node will be read."""
        return sum(self.uses[node.id, i] for i in range(len(node.types)))

    def forget(self, start: int) -> None:
        """The new nodes from this one on are not wanted after all."""
        for id in range(start, len(self.new)):
            self.uses.subtract((value.node, value.output) for _, value in self.new.operands(self.new.node(id)))

    def _release(self, node: Node) -> None:
        """What nothing reads any more reads nothing."""
        waiting = [node]
        while waiting:
            dead = waiting.pop()
            if self.reads(dead):
                continue
            for _, value in self.new.operands(dead):
                self.uses[value.node, value.output] -= 1
                if self.uses[value.node, value.output] == 0:
                    waiting.append(self.new.producer(value))

    def apply(self, op: Primitive, operands: list[tuple[str, Value]], node: Node) -> tuple[Value, ...]:
        """An operation in the place of an old node, on new values."""
        same = op is node.op and all(new.type == old.type for (_, new), (_, old) in self._pairs(node, operands))
        made = self.new.add(op, operands, span=node.span, label=node.label, types=node.types if same else None)
        if remark := self.old.remarks.get(node.id):
            self.new.remarks[self.new.last.id] = remark
        if isinstance(op, Input):
            self.new.inputs[op.port] = made[0]
        return made

    def _pairs(self, node: Node, operands: list[tuple[str, Value]]) -> Iterable[tuple[Any, Any]]:
        return zip(operands, self.old.operands(node), strict=True)

    def finish(self) -> Graph:
        """The new graph, of what its results need and the weights of all layers."""
        new, value = self.new, self.value
        new.outputs = [(name, value(v)) for name, v in self.old.outputs]
        new.losses = {name: [value(v) for v in values] for name, values in self.old.losses.items()}
        new.exits = [(name, value(a), value(b)) for name, a, b in self.old.exits]
        return prune(new)


def _reads(graph: Graph) -> Counter[tuple[int, int]]:
    """How often each value is read, by nodes and as a result."""
    values = [value for node in graph for _, value in graph.operands(node)]
    return Counter((value.node, value.output) for value in [*values, *graph.results()])


def prune(graph: Graph) -> Graph:
    """The graph without what nothing reads. A layer that nothing applies any more stays to hold its weights."""
    needed = live(graph)
    if len(needed) == len(graph):
        return graph
    rebuild, labels = Rebuild(graph), {node.label for node in graph if node.id in needed and _makes(node)}
    for node in graph:
        if node.id in needed:
            rebuild.copy(node)
        elif node.label and node.label not in labels and not isinstance(node.op, WeightOf):
            labels.add(node.label)
            rebuild.new.add(kept(graph, node), span=node.span, label=node.label)
    return rebuild.finish()


def _makes(node: Node) -> bool:
    return node.label is not None and not isinstance(node.op, WeightOf)


def kept(graph: Graph, node: Node) -> Primitive:
    """What keeps the weights of a node."""
    if isinstance(node.op, Kept):
        return node.op
    return Kept(op=node.op, given=tuple(graph.input_types(node)), types=node.types)


def live(graph: Graph) -> set[int]:
    """The nodes that the results need; inputs, weights of the block itself and calls, which hold weights, always."""
    kept = (node.id for node in graph if isinstance(node.op, Input | Parameter | Kept) or _holds(node))
    waiting, found = [*kept, *(value.node for value in graph.results())], set[int]()
    while waiting:
        if (id := waiting.pop()) not in found:
            found.add(id)
            waiting += [value.node for _, value in graph.operands(graph.node(id))]
    return found


def _holds(node: Node) -> bool:
    return isinstance(node.op, Call | Scan) and any(True for _ in node.op.graph.makers())
