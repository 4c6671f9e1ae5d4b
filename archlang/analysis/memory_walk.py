"""One graph followed forward and back: what lies in memory when, and what stays for the backward pass."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from archlang.facts import Facts
from archlang.ir import Call, Graph, Input, Node, Parameter, Scan, Value, WeightOf
from archlang.memory import Memory, Peak
from archlang.primitives.mixture import Dispatch
from archlang.shapes import TensorType, is_float
from archlang.sizes import Size, total

if TYPE_CHECKING:
    from archlang.analysis.memory import Memories

Key: TypeAlias = tuple[int, int]  # an output of a node; (-1, i) the i-th input; (node, -1) what a node keeps


@dataclass(frozen=True, slots=True)
class Place:
    """A value as it lies in memory: its type with the axes in that order, and whether a gradient flows to it."""

    type: TensorType
    grad: bool


RANDOM = 5056  # bytes of the state of the random numbers of a CPU
WEIGHT = -1  # where a value lies that is a weight


@dataclass(frozen=True, slots=True)
class Output(Place):
    """An output of a node: the input in whose memory it lies, or `WEIGHT`, and whether the backward pass reads it."""

    alias: int | None = None
    read: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What one call holds. forward, backward: the most bytes above what is there before, backward with what is kept
    and the gradients of the outputs; kept: what stays for the backward pass, reads: the inputs that do;
    grads: the gradients of weights that appear; passes: the inputs whose gradient is that of the first output;
    named: what has a name of its own until the block around it returns.
    """

    forward: Peak
    backward: Peak
    kept: Size
    reads: frozenset[int]
    outputs: tuple[Output, ...]
    grads: Size
    constants: Size
    passes: frozenset[int] = frozenset()
    named: Size = 0


class Walk:
    """One graph, its inputs in places."""

    def __init__(self, run: "Memories", graph: Graph, given: tuple[Place, ...]) -> None:
        self.run, self.graph, self.given = run, graph, given
        self.places: dict[Key, Output] = {}
        self.root: dict[Key, Key] = {}  # where a value lies
        self.size: dict[Key, Size] = {}  # of what lies somewhere
        self.nodes: list[tuple[Node, Held, list[Value]]] = []
        self._makers = {label: (owner, maker) for label, owner, maker in graph.makers()}
        for node in graph:
            self._visit(node)
        self.results = [(value.node, value.output) for _, value in graph.outputs]
        self.out = {self.root[key] for key in self.results}

    # ---- nodes
    def _visit(self, node: Node) -> None:
        operands = [value for _, value in self.graph.operands(node)]
        if isinstance(node.op, Input):
            i = list(self.graph.inputs).index(node.op.port)
            place = self.given[i]
            self._put((node.id, 0), Output(place.type, place.grad), (-1, i))
            return
        held = self._held(node, operands)
        self.size[node.id, -1] = held.kept
        for i, output in enumerate(held.outputs):
            key = node.id, i
            self._put(key, output, self._lies(key, output.alias, operands))
        self.nodes.append((node, held, operands))

    def _lies(self, key: Key, alias: int | None, operands: list[Value]) -> Key:
        """Where an output lies."""
        if alias is None:
            return key
        return (-2, key[0]) if alias == WEIGHT else self.root[operands[alias].node, operands[alias].output]

    def _put(self, key: Key, output: Output, root: Key) -> None:
        self.places[key], self.root[key] = output, root
        self.size.setdefault(root, output.type.bytes)

    def _held(self, node: Node, operands: list[Value]) -> Held:
        places = tuple(self.places[value.node, value.output] for value in operands)
        if isinstance(node.op, Parameter | WeightOf):
            type_ = self.run.typed(node.types[0])
            trained = (
                self.run.training and _learned(type_.dtype) and not (isinstance(node.op, Parameter) and node.op.buffer)
            )
            return _plain(Memory(weight=True), (Output(type_, trained, WEIGHT),), self._grads(node), frozenset())
        if isinstance(node.op, Call):
            held = self.run.graph(node.op.graph, tuple(Place(place.type, place.grad) for place in places))
            borrowed = total(self._weights_of(label) for _, label in node.op.layers)
            held = replace(held, grads=self._grads(node) + borrowed)
            return self._again(node.op, places, held) if node.op.recomputed and self.run.training else held
        if isinstance(node.op, Scan):
            return self._scan(node, node.op, places)
        return self._operation(node, places)

    def _again(self, op: Call, places: tuple[Place, ...], held: Held) -> Held:
        """A call that keeps its inputs alone, and the state of the random numbers: the rest is made again."""
        plain = self.run.plain.graph(op.graph, tuple(Place(place.type, False) for place in places))
        flowing = total(output.type.bytes for output in held.outputs if output.grad)
        made = total(output.type.bytes for output in held.outputs if output.read and output.alias is None)
        return replace(
            held,
            forward=Peak(plain.forward.above(RANDOM)),
            backward=Peak([*held.forward.above(flowing + RANDOM), *held.backward.above(made + RANDOM)]),
            kept=RANDOM,
            reads=frozenset(range(len(places))),
            outputs=tuple(replace(output, read=False) for output in held.outputs),
        )

    def _operation(self, node: Node, places: tuple[Place, ...]) -> Held:
        """One operation, by what it states."""
        names = [name.partition(".")[0] for name, _ in self.graph.operands(node)]
        types = Graph.arguments(
            node.op, [(n, p.type) for (n, _), p in zip(self.graph.operands(node), places, strict=True)]
        )
        memory = node.op.memory(*types)
        if isinstance(node.op, Dispatch):
            self.run.means |= node.op.means(*types)
        weights = self._grads(node)
        trained = any(not p.buffer for p in self.graph.params(node).values())
        grad = (trained or any(place.grad for place in places)) and self.run.training
        if node.op.random and not self.run.training:
            memory = Memory(view=True)
        wanted = {name for name, place in zip(names, places, strict=True) if place.grad} | ({""} if grad else set())
        reads = frozenset(i for i, name in enumerate(names) if memory.keeps.get(name) in wanted)
        made = node.op.infer(Facts(), *types)
        made = (made,) if isinstance(made, TensorType) else tuple(made)
        outputs = tuple(
            Output(
                _laid(self.run.typed(replace(type_, lost=frozenset())), memory.order, node.op.prefers),
                grad and _learned(type_.dtype),
                WEIGHT if memory.weight else 0 if memory.view else None,
                memory.output and grad,
            )
            for type_ in made
        )
        passes = frozenset(
            i for i, name in enumerate(names) if name in memory.passes and places[i].type.numel == outputs[0].type.numel
        )
        back = total(
            p.type.bytes for i, p in enumerate(places) if p.grad and i not in passes and not (memory.view and i == 0)
        )
        return _plain(replace(memory, back=memory.back + back), outputs, weights, reads, passes, grad)

    def _scan(self, node: Node, op: Scan, places: tuple[Place, ...]) -> Held:
        """The body at every position; each keeps its own."""
        names = [name for name, _ in self.graph.operands(node)]
        inner = dict(zip(names, places, strict=True))
        grad = (any(place.grad for place in places) or bool(self._makers)) and self.run.training
        given = tuple(
            Place(self.run.typed(value.type), inner[port].grad if port in inner and port not in op.carries else grad)
            for port, value in op.graph.inputs.items()
        )
        body, steps = self.run.graph(op.graph, given), op.axis.size
        made = total(self.run.typed(value.type).bytes for value in op.yields)
        shown = {(value.node, value.output) for value in op.yields}
        left = zip(op.graph.outputs, body.outputs[: len(op.carries)], strict=False)
        carried = total(o.type.bytes for (_, value), o in left if (value.node, value.output) not in shown)
        kept = (body.kept + carried) * steps
        outputs = tuple(Output(self.run.typed(type_), grad and _learned(type_.dtype)) for type_ in node.types)
        again = made * steps
        stays = kept if grad else carried
        before = kept - body.kept if grad else carried
        return Held(
            Peak([stays + again * 2, *body.forward.above(before + again)]),  # a list of what is made, then that in one
            Peak(body.backward.above(before + again)),
            kept if grad else 0,
            frozenset(range(len(places))) if grad else frozenset(),
            outputs,
            total(self._weights_of(label) for label, _, _ in op.graph.makers()),
            body.constants,
            named=again if grad else again + carried,  # the list of what is made, and the last carries
        )

    def _grads(self, node: Node) -> Size:
        """The gradients of the weights that are a node's, where it is the first to have them."""
        return self._weights_of(node.label) if node.label else 0

    def _weights_of(self, label: str) -> Size:
        owner, maker = self._makers.pop(label, (None, None))
        if owner is None or maker is None:
            return 0
        if isinstance(maker.op, Call):
            return self.run.trained(maker.op.graph)
        return total(self.run.weight(p) for p in owner.params(maker).values() if not p.buffer)

    # ---- the passes
    def held(self) -> Held:
        forward, saved = self._forward()
        own = total(self.size[root] for root in saved if root[0] >= 0 and root not in self.out)
        outputs = []
        for key in self.results:
            root = self.root[key]
            outputs.append(
                replace(
                    self.places[key],
                    alias=None if root[0] >= 0 else root[1] if root[0] == -1 else WEIGHT,
                    read=root in saved,
                )
            )
        return Held(
            forward,
            self._backward(Counter(saved)),
            own,
            frozenset(root[1] for root in saved if root[0] == -1),
            tuple(outputs),
            total(held.grads for _, held, _ in self.nodes),
            total(held.constants for _, held, _ in self.nodes),
        )

    def _forward(self) -> tuple[Peak, Counter[Key]]:
        """The most bytes, and what is kept for the backward pass, each as often as it is read there."""
        dies = self._ends()
        peak = Peak([0])
        level: Size = 0
        saved: Counter[Key] = Counter()
        alive: Counter[Key] = Counter()
        for at, (node, held, operands) in enumerate(self.nodes):
            for size in held.forward.above(level):
                peak.meet(size)
            for i, output in enumerate(held.outputs):
                root = self.root[node.id, i]
                level += self.size[root] if root == (node.id, i) else 0
                alive[root] += 1
                if output.read:
                    saved[root] += 1
            saved.update(self.root[operands[i].node, operands[i].output] for i in held.reads)
            if held.kept:
                saved[node.id, -1] += 1
            level += held.kept + held.named
            for key in dies.get(at, ()):
                root = self.root[key]
                alive[root] -= 1
                if not alive[root] and not saved[root] and root[0] >= 0:
                    level = level - self.size[root]
            peak.meet(level)
        return peak, saved

    def _ends(self) -> dict[int, list[Key]]:
        """The values that go after each of the nodes."""
        places = {node.id: at for at, (node, _, _) in enumerate(self.nodes)}
        last: dict[Key, int] = {}
        uses: Counter[Key] = Counter(self.results)
        for at, (_, _, operands) in enumerate(self.nodes):
            for value in operands:
                key = value.node, value.output
                last[key] = at
                uses[key] += 1
        ends: dict[int, list[Key]] = {}
        named: dict[str, int] = {}  # when each name gets its next value, from the end
        for at, (node, held, _) in reversed(list(enumerate(self.nodes))):
            for i in range(len(held.outputs)):
                key = node.id, i
                name = self.graph.name_of(Value(self.graph, node.id, i, node.types[i]))
                end = last.get(key, at)
                if key in self.results:
                    end = len(self.nodes)
                elif name or uses[key] > 1 or len(held.outputs) > 1:
                    end = max(end, named.get(name or "", len(self.nodes)))
                ends.setdefault(end, []).append(key)
                if name:
                    named[name] = at
        assert places is not None
        return ends

    def _backward(self, saved: Counter[Key]) -> Peak:
        """The most bytes on the way back."""
        grads = _Gradients(total(self.size[root] for root in saved if root[0] >= 0 and root not in self.out))
        for key in dict.fromkeys(self.results):
            if self.places[key].grad:
                grads.give(key, self.places[key].type.bytes)
        peak = Peak([grads.level])
        for node, held, operands in reversed(self.nodes):
            outs = [(node.id, i) for i in range(len(held.outputs)) if (node.id, i) in grads.of]
            if outs:
                flowing = total(grads.size[grads.of[key]] for key in outs)
                for size in held.backward.above(grads.level - held.kept - flowing):
                    peak.meet(size)
                self._give(grads, held, operands, outs)
                grads.level += held.grads
            for key in outs:
                grads.drop(key)
            for root in self._released(node, held, operands):
                saved[root] -= 1
                if not saved[root] and root[0] >= 0 and root not in self.out:
                    grads.level -= self.size[root]
            peak.meet(grads.level)
        return peak

    def _give(self, grads: "_Gradients", held: Held, operands: list[Value], outs: list[Key]) -> None:
        for i, value in enumerate(operands):
            key = value.node, value.output
            if not self.places[key].grad:
                continue
            if i in held.passes or (held.outputs[0].alias == 0 and i == 0):
                grads.share(key, outs[0], self.places[key].type.bytes)
            else:
                grads.give(key, self.places[key].type.bytes)

    def _released(self, node: Node, held: Held, operands: list[Value]) -> Iterator[Key]:
        """What a node needs no longer once it has given its gradients."""
        yield from (self.root[node.id, i] for i, output in enumerate(held.outputs) if output.read)
        yield from (self.root[operands[i].node, operands[i].output] for i in held.reads)
        if held.kept:
            yield node.id, -1


class _Gradients:
    """The gradients of values on the way back; several values may have one."""

    def __init__(self, level: Size) -> None:
        self.level = level
        self.of: dict[Key, int] = {}
        self.size: dict[int, Size] = {}
        self._users: Counter[int] = Counter()

    def give(self, key: Key, size: Size) -> None:
        """A gradient of its own, added to what there is: in place where nothing else has that."""
        if key in self.of and self._users[self.of[key]] == 1:
            return
        self._leave(key)
        new = len(self.size)
        self.size[new], self.of[key], self._users[new] = size, new, 1
        self.level += size

    def share(self, key: Key, other: Key, size: Size) -> None:
        """The gradient of another value, or the sum of both."""
        if key in self.of or self.size[self.of[other]] != size:
            self.give(key, size)
            return
        self.of[key] = self.of[other]
        self._users[self.of[key]] += 1

    def drop(self, key: Key) -> None:
        self._leave(key)
        del self.of[key]

    def _leave(self, key: Key) -> None:
        if key in self.of:
            old = self.of[key]
            self._users[old] -= 1
            self.level = self.level if self._users[old] else self.level - self.size[old]


def _plain(
    memory: Memory,
    outputs: tuple[Output, ...],
    grads: Size,
    reads: frozenset[int],
    passes: frozenset[int] = frozenset(),
    grad: bool = True,
) -> Held:
    """What an operation holds."""
    made = 0 if memory.view or memory.weight else total(output.type.bytes for output in outputs)
    kept = memory.kept if grad else 0
    work = (memory.kept if memory.work is None else memory.work) + made
    forward = Peak([work, made + kept])
    flowing = total(output.type.bytes for output in outputs if output.grad)
    back = kept + flowing + memory.back + grads
    return Held(forward, Peak([back]), kept, reads, outputs, grads, memory.constant, passes)


def _laid(type_: TensorType, order: tuple[str, ...] | None, prefers: str | None) -> TensorType:
    """A type with its axes as they lie in memory."""
    if order is None and prefers == "last" and "c" in type_:
        order = (*(name for name in type_.names if name != "c"), "c")
    return type_ if order is None else replace(type_, axes=tuple(type_[name] for name in order))


def _learned(dtype: str) -> bool:
    """Whether values of a dtype have gradients."""
    return is_float(dtype) or dtype.startswith("complex")
