"""What the template of a kernel must hold for a scan whose body sums along axes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from archlang.emit.chains.forms import lowered
from archlang.emit.chains.loop import Loop
from archlang.emit.chains.scan import TAKEN, Words
from archlang.emit.chains.slopes import backward
from archlang.emit.chains.tape import Tape
from archlang.emit.chains.text import taped, tight, unique
from archlang.emit.chains.written import Written
from archlang.ir import Node, TiledScan, fractions
from archlang.ir.tiled_scan import Layout
from archlang.primitive import axes_of
from archlang.shapes import TensorType

OWN = TAKEN | frozenset("place places rest alone tile sizes kind grads".split())


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tensors of a scan have their numbers, as text."""

    layout: Layout
    axis: str

    def tensor(self, word: str, suffix: str, type_: TensorType, time: str = "", full: bool = True) -> dict[str, Any]:
        """What the template needs to know of a tensor: where a program starts to read it, where its tile lies, and
        which numbers of the tile are there.
        """
        outer = self.layout.outer if full or self.layout.is_placed(type_) else ()
        own = self.layout.own(type_)
        offsets = [f"{axis}_at * {word}_steps[{i}]" for i, axis in enumerate(outer)]
        moved = [f"{time} * {word}_steps[{len(outer)}]"] * bool(time)
        return {
            "name": word,
            "pointer": f"{word}{suffix}",
            "start": " + ".join(offsets),
            "at": " + ".join([f"{word}{suffix}", *moved, self.inside(own)]),
            "here": " & ".join(f"{name}_here" for name in own) or "alone == 0",
            "tile": self.tile(own),
            "sides": self.tile(own)[1:-1],
            "numbers": " * ".join(f"{name}_tile" for name in own) or "1",
            "lead": len(outer),
            "own": len(own),
            "shape": [f"{name}_size" for name in outer] + ["length"] * bool(time) + [f"{name}_size" for name in own],
        }

    def inside(self, own: Sequence[str]) -> str:
        """Where the numbers of a tile are, which lie in one piece."""
        if not own:
            return "alone"
        steps = ("".join(f" * {name}_size" for name in own[i + 1 :]) for i in range(len(own)))
        return " + ".join(f"{name}_at{step}" for name, step in zip(own, steps, strict=True))

    def tile(self, own: Iterable[str]) -> str:
        """The shape of a tile."""
        sides = {self.layout.lanes[name]: f"{name}_tile" for name in own}
        return f"[{sides.get(0, '1')}, {sides.get(1, '1')}]"


@dataclass(frozen=True)
class Text:
    """The statements of the kernels of a scan."""

    scan: TiledScan
    layout: Layout
    words: Words
    tape: Tape
    steps: Mapping[int, int]

    @property
    def loads(self) -> dict[str, str]:
        """Matrices that registers do not hold from one position to the next, and how they are read."""
        places, inputs, words = Places(self.layout, self.scan.axis.name), self.scan.graph.inputs, self.words.ports
        found = (places.tensor(words[port], "_in", inputs[port].type, full=False) for port in self.scan.streamed)
        return {x["name"]: f"tiled_load({x['at']}, {x['here']})" for x in found}

    def kind(self, type_: TensorType) -> frozenset[str]:
        return frozenset(self.layout.own(type_))

    @property
    def ends(self) -> list[int]:
        """What is carried on, then what is yielded."""
        return [self.steps[value.node] for _, value in self.scan.graph.outputs]

    def slopes(self) -> dict[str, int]:
        """The slope of what is read under each port."""
        grads = [f"grad_{word}" for word in self.words.outputs]
        moved = [f"slope_{self.words.ports[port]}" for port in self.scan.carries]
        results: dict[int, int] = {}
        for end, word, (_, value) in zip(self.ends, [*moved, *grads], self.scan.graph.outputs, strict=True):
            slope = self.tape.read(word, self.kind(value.type))
            results[end] = self.tape.put("add", results[end], slope) if end in results else slope
        found = {self.tape.steps[step].text: slope for step, slope in backward(self.tape, results).items()}
        return {port: found[word] for port, word in self.words.ports.items()}

    def factors(self, port: str, slope: int) -> tuple[int, int] | None:
        """The slope of a matrix as the product of a number a row and one a column, if it is one: what positions add is
        a product of matrices, taken behind the kernel.
        """
        own, step = self.layout.own(self.scan.graph.inputs[port].type), self.tape.steps[slope]
        if step.op != "mul" or len(own) != 2 or port not in self.scan.fixed:
            return None
        found = {self.tape.lanes(arg): arg for arg in step.args}
        left, right = (found.get(frozenset({name})) for name in own)
        return None if left is None or right is None else (left, right)

    def sums(self, slopes: Iterable[int]) -> dict[int, str]:
        """Sums over matrices that slopes follow from, and their names: made once, when carries are made again."""
        steps = self.tape.steps
        wide = (
            s for s in self.tape.needed(slopes) if steps[s].op == "sum" and len(self.tape.lanes(steps[s].args[0])) == 2
        )
        forward = set(self.tape.needed(self.ends))
        made = [step for step in wide if step in forward]
        return dict(zip(made, unique(("total" for _ in made), self.words.taken()), strict=True))

    def written(
        self, held: Sequence[tuple[int, TensorType]], stored: Sequence[int] = (), known: Mapping[int, str] = {}
    ) -> dict[str, list[str]]:
        """The statements that lead to some steps, what of these stays in registers, as whole tiles, what is stored."""
        lanes = {name: f"{name}_here, {side}" for name, side in self.layout.lanes.items()}
        results = [*(step for step, _ in held), *stored]
        text = Written(self.tape, results, self.words.taken() | set(known.values()), lanes, self.loads, known)
        stays = [
            result if self.tape.lanes(step) == self.kind(type_) else self._spread(result, type_)
            for result, (step, type_) in zip(text.results, held, strict=False)
        ]
        leaves = list(map(tight, text.results[len(held) :]))
        return {"lines": text.lines, "held": stays, "stored": leaves, "reads": text.reads}

    def _spread(self, result: str, type_: TensorType) -> str:
        """What is alike along a lane, as a tile."""
        return f"tl.broadcast_to({result}, {Places(self.layout, '').tile(self.layout.own(type_))})"


def features(scan: TiledScan, name: str) -> dict[str, Any]:
    """The names, statements and results of the kernels of a scan."""
    layout, graph = scan.layout, scan.graph
    axes = (*layout.outer, *layout.lanes)
    words = Words(scan, OWN | {f"{axis}_{word}" for axis in axes for word in ("at", "here", "size", "tile")})
    held = {(id, field): word for (id, field, _), word in zip(fractions(graph), words.numbers, strict=True)}
    given = {graph.inputs[port].node: word for port, word in words.ports.items()}
    tape = Tape({name: f"{name}_size" for name in layout.lanes})
    steps = taped(tape, graph, given, held, lambda x: frozenset(layout.own(x)), partial(_along, scan, layout))
    text = Text(scan, layout, words, tape, steps)
    return {
        "name": name,
        "formula": ", ".join(scan.operations),
        "reverse": scan.reverse,
        "outer": layout.outer,
        "axis": scan.axis.name,
        "lanes": [{"name": name, "side": ("[:, None]", "[None, :]")[side]} for name, side in layout.lanes.items()],
        "numbers": words.numbers,
        **_tensors(scan, layout, words),
        **_statements(text),
        **_loop(scan, layout, words, given, held),
    }


def _tensors(scan: TiledScan, layout: Layout, words: Words) -> dict[str, Any]:
    """The tensors that the kernels read and write, and the sizes that follow from them."""
    places, inputs, ports = Places(layout, scan.axis.name), scan.graph.inputs, words.ports
    carried = {port: ports[port] for port in scan.carries}

    def each(port: str, word: str, suffix: str, full: bool = False) -> dict[str, Any]:
        return places.tensor(word, suffix, inputs[port].type, "time" if port in scan.each else "", full)

    read = {port: words.starts[port] if port in carried else ports[port] for port in scan.arguments}
    yielded = list(zip(words.outputs, scan.yields, strict=True))
    return {
        "given": [each(port, word, "_in") for port, word in read.items()],
        "grads": [{**each(port, f"grad_{word}", "_to", True), "of": word} for port, word in read.items()],
        "made": [places.tensor(word, "_to", value.type, "time") for word, value in yielded],
        "slopes": [places.tensor(f"grad_{word}", "_in", value.type, "time") for word, value in yielded],
        "carries": [
            {**each(p, w, "", True), "start": words.starts[p], "number": p in scan.starts} for p, w in carried.items()
        ],
        "each": len(scan.each),
        "whole": len(scan.fixed),
        "sizes": _sizes(scan, layout, read),
    }


def _sizes(scan: TiledScan, layout: Layout, read: Mapping[str, str]) -> dict[str, str]:
    """The sizes at run time: of what tensor, and of which of its axes."""
    found: dict[str, str] = {}
    for port, word in read.items():
        type_ = scan.graph.inputs[port].type
        order = layout.order(type_, scan.axis.name if port in scan.each else "")
        for i, name in enumerate(order):
            if name in type_ or name == scan.axis.name:
                found.setdefault("length" if name == scan.axis.name else f"{name}_size", f"{word}.shape[{i}]")
    return found


def _statements(text: Text) -> dict[str, Any]:
    """Forward, again without what is yielded, and backward."""
    scan, inputs, count = text.scan, text.scan.graph.inputs, len(text.scan.carries)
    carried = [(end, inputs[port].type) for end, port in zip(text.ends, scan.carries, strict=False)]
    back = text.slopes()
    sums = text.sums(back.values())
    factors = {port: pair for port in scan.fixed if (pair := text.factors(port, back[port]))}
    sides = {step: _side(text, port, i) for port, pair in reversed(factors.items()) for i, step in enumerate(pair)}
    summed = [port for port in scan.fixed if port not in factors]
    held = [(back[port], inputs[port].type) for port in (*summed, *scan.carries)]
    return {
        "forward": text.written(carried, text.ends[count:]),
        "walk": text.written(carried, list(sums)),
        "backward": text.written(held, [*(back[port] for port in scan.each), *sides], sums),
        "sums": [_sum(text, step, name) for step, name in sums.items()],
        "sides": list(sides.values()),
        "factors": [
            {"name": text.words.ports[port], "sides": [sides[s]["name"] for s in pair], "product": _product(text, port)}
            for port, pair in factors.items()
        ],
        "summed": [text.words.ports[port] for port in summed],
        "numbers_held": _held(text, summed),
        "again": list(text.loads),
    }


def _sum(text: Text, step: int, name: str) -> dict[str, Any]:
    """The tile of a sum."""
    own = sorted(text.tape.lanes(step))
    sides = Places(text.layout, "").tile(own)[1:-1]
    return {"name": name, "sides": sides, "numbers": " * ".join(f"{lane}_tile" for lane in own) or "1"}


def _side(text: Text, port: str, i: int) -> dict[str, Any]:
    """The tensor that holds one factor of the slope of a matrix, at all positions."""
    type_, word = text.scan.graph.inputs[port].type, text.words.ports[port]
    kept = type_.without(text.layout.own(type_)[1 - i])
    side = Places(text.layout, text.scan.axis.name).tensor(f"{('left', 'right')[i]}_{word}", "", kept, "time")
    return {**side, "of": word}


def _product(text: Text, port: str) -> str:
    """How the factors of the slope of a matrix are multiplied."""
    letters = dict(zip(text.layout.outer, "abdefgh", strict=False))
    lead, type_ = "".join(letters.values()), text.scan.graph.inputs[port].type
    made = "".join(letter for name, letter in letters.items() if name in type_)
    return f"{lead}ti,{lead}tj->{made}ij"


def _held(text: Text, summed: Sequence[str]) -> list[str]:
    """How many numbers a program holds, forward and backward: of a carry, its next value and its slope too."""
    inputs, scan = text.scan.graph.inputs, text.scan

    def total(ports: Sequence[str]) -> str:
        owns = (text.layout.own(inputs[port].type) for port in ports)
        return " + ".join(" * ".join(f"{name}_tile" for name in own) or "1" for own in owns)

    return [total([*scan.fixed, *scan.carries * 2]), total([*scan.fixed, *summed, *scan.carries * 3])]


def _along(scan: TiledScan, layout: Layout, node: Node) -> Callable[..., int]:
    """How an operation becomes steps: along which lanes it sums, and where its numbers move."""
    op: Any = node.op
    if op.name == "rename":
        sides = layout.lanes
        moves = [(old, new, sides[old] != sides[new]) for old, new in op.names.items]
        return lambda tape, op, numbers, operands: _moved(tape, operands["x"], moves)
    on = axes_of(op.on, scan.graph.input_types(node)[0]) if "on" in type(op).model_fields else ()
    if op.name == "dot":
        return lambda tape, op, numbers, operands: _summed(tape, tape.put("mul", operands["a"], operands["b"]), on)
    if op.name == "sum":
        return lambda tape, op, numbers, operands: _summed(tape, operands["x"], on)
    return partial(lowered, lane=on[0]) if on else lowered


def _moved(tape: Tape, x: int, moves: Iterable[tuple[str, str, bool]]) -> int:
    for old, new, turned in moves:
        x = tape.move(x, old, new, turned)
    return x


def _summed(tape: Tape, x: int, on: Iterable[str]) -> int:
    for lane in on:
        x = tape.sum(x, lane)
    return x


def _loop(
    scan: TiledScan, layout: Layout, words: Words, given: Mapping[int, str], held: Mapping[tuple[int, str], str]
) -> dict[str, Any]:
    """The scan as a loop in PyTorch."""
    now = {words.ports[port]: f"{words.ports[port]}_{scan.axis.name}" for port in scan.each}
    loop = Loop(scan, layout, {node: now.get(word, word) for node, word in given.items()}, held)
    return {
        "plain": (loop.lines, loop.results[: len(scan.carries)], loop.results[len(scan.carries) :]),
        "now": list(now.values()),
        "functional": "F." in "".join([*loop.lines, *loop.results]),
    }
