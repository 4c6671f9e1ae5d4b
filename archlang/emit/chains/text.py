"""What the template of a kernel must hold for a chain."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from archlang.emit import names
from archlang.emit.chains.forms import lowered
from archlang.emit.chains.plain import Plain, called
from archlang.emit.chains.slopes import backward
from archlang.emit.chains.tape import ROW, TILE, Kind, Tape
from archlang.emit.chains.written import Written
from archlang.ir import Chain, Graph, Input, Node, fractions
from archlang.shapes import TensorType

TAKEN = frozenset(  # names in the template, and of what stands around it
    "tl torch F row rows inner inside width tiles at each part parts here column step grad width call count Tensor Any"
    " triton runs self given back".split()
)
GROUPED = frozenset(  # those of a chain behind layers of experts, besides
    "x y order tokens ends weights biases kept total channels units expert first last unit inside token channel"
    " x_tile bias seen slopes size experts keep flat w b own tables sizes part product weight_0 weight_1".split()
)
Lower: TypeAlias = Callable[..., int]  # (tape, op, numbers, operands)
FIELDS = frozenset("eps slope alpha beta low high".split())  # that say in a signature what a number is


@dataclass(frozen=True, slots=True)
class Words:
    """What inputs, fractions and outputs of a chain are called, in order."""

    inputs: Sequence[str]
    numbers: Sequence[str]
    outputs: Sequence[str]
    template: frozenset[str]

    def taken(self, *more: str) -> set[str]:
        """Names that nothing else may have."""
        return {*self.template, *self.inputs, *self.numbers, *more}


def features(chain: Chain, name: str) -> dict[str, Any]:
    """The names, statements and results of the kernels of a chain."""
    words = _words(chain)
    held = {(id, field): word for (id, field, _), word in zip(fractions(chain.graph), words.numbers, strict=True)}
    given = {value.node: word for value, word in zip(chain.graph.inputs.values(), words.inputs, strict=True)}
    tape = Tape()
    steps = taped(tape, chain.graph, given, held, lambda type_: ROW if chain.lies(type_) == "row" else TILE)
    ends = [steps[value.node] for _, value in chain.graph.outputs]
    forward = Written(tape, ends, words.taken())
    slopes = _sloped(tape, ends, words)
    back = Written(tape, slopes, words.taken(*(f"grad_{word}" for word in words.outputs)))
    plain = Plain(chain.graph, given, held)
    return {
        "name": name,
        "flat": not chain.axis,
        "formula": ", ".join(chain.made_of),
        "inputs": _inputs(chain, words, back.reads),
        "numbers": words.numbers,
        "outputs": words.outputs,
        "forward": (forward.lines, list(map(tight, forward.results))),
        "backward": (back.lines, list(map(tight, back.results))),
        "plain": (plain.lines, plain.results),
        "functional": "F." in "".join([*plain.lines, *plain.results]),
        "whole": any(tape.steps[step].op in ("sum", "peak", "below") for step in tape.needed([*ends, *slopes])),
    }


def _words(chain: Chain) -> Words:
    taken = TAKEN if chain.name == "chain" else TAKEN | GROUPED
    inputs = unique(chain.ports, taken)
    numbers = unique(held_fields(chain.graph), {*taken, *inputs})
    made = (called(chain.graph.node(value.node)) for _, value in chain.graph.outputs)
    return Words(inputs, numbers, unique(made, {*taken, *inputs, *numbers}), taken)


def held_fields(graph: Graph) -> list[str]:
    """What the fractions of a graph are called."""
    return [field if field in FIELDS else "number" for _, field, _ in fractions(graph)]


def unique(wanted: Iterable[str], taken: Iterable[str]) -> list[str]:
    """The names, numbered where one is taken."""
    found, used = list[str](), set(taken)
    for word in wanted:
        found.append(names.numbered(names.local(word), lambda name: name not in used))
        used.add(found[-1])
    return found


def _inputs(chain: Chain, words: Words, reads: Sequence[str]) -> list[dict[str, Any]]:
    """How each input lies, and whether slopes follow from it."""
    types = (value.type for value in chain.graph.inputs.values())
    return [
        {"name": word, "kind": chain.lies(type_), "full": chain.is_full(type_), "read": word in reads}
        for word, type_ in zip(words.inputs, types, strict=True)
    ]


def tight(text: str) -> str:
    """An expression that a method can be called on."""
    return text if text.isidentifier() else f"({text})"


def taped(
    tape: Tape,
    graph: Graph,
    given: Mapping[int, str],
    held: Mapping[tuple[int, str], str],
    lies: Callable[[TensorType], Kind],
    along: Callable[[Node], Lower] = lambda node: lowered,
) -> Mapping[int, int]:
    """Put a graph on a tape, and return the step of each node."""
    steps: dict[int, int] = {}
    for value in graph.inputs.values():
        steps[value.node] = tape.read(given[value.node], lies(value.type))
    for node in graph:
        if isinstance(node.op, Input):
            continue
        fields = {f: v for f, v in node.op if isinstance(v, int | float) and not isinstance(v, bool)}
        numbers = {f: tape.number(held.get((node.id, f), float(v))) for f, v in fields.items()}
        operands = {port: steps[value.node] for port, value in graph.operands(node)}
        steps[node.id] = along(node)(tape, node.op, numbers, operands)
        tape.hint(steps[node.id], called(node))
    return steps


def _sloped(tape: Tape, ends: Sequence[int], words: Words) -> list[int]:
    """The slope of each input, in order."""
    results: dict[int, int] = {}
    for end, word in zip(ends, words.outputs, strict=True):
        slope = tape.read(f"grad_{word}", TILE)
        results[end] = tape.put("add", results[end], slope) if end in results else slope
    slopes = {tape.steps[step].text: slope for step, slope in backward(tape, results).items()}
    for word in words.inputs:
        tape.hint(slopes[word], f"grad_{word}")
    return [slopes[word] for word in words.inputs]
