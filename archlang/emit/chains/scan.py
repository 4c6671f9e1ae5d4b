"""What the template of a kernel must hold for a scan whose body is a chain."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from archlang.emit.chains.plain import Plain, called
from archlang.emit.chains.slopes import backward
from archlang.emit.chains.tape import TILE, Tape
from archlang.emit.chains.text import held_fields, taped, tight, unique
from archlang.emit.chains.written import Written
from archlang.ir import FusedScan, fractions

TAKEN = frozenset(  # names in the template, and of what stands around it
    "tl torch F Tensor Any triton runs self given made shape dim lane lanes here row column length step time width at"
    " kept walked count part first end back call grid rows steps grads total".split()
)


@dataclass(frozen=True)
class Words:
    """What stands for what in the kernels of a scan."""

    scan: FusedScan
    template: frozenset[str] = TAKEN

    @cached_property
    def ports(self) -> dict[str, str]:
        """What is read inside, by port."""
        return dict(zip(self.scan.graph.inputs, unique(self.scan.graph.inputs, self.template), strict=True))

    @cached_property
    def starts(self) -> dict[str, str]:
        """What carries start from."""
        taken = {*self.template, *self.ports.values()}
        names = unique((f"{self.ports[port]}_start" for port in self.scan.carries), taken)
        return dict(zip(self.scan.carries, names, strict=True))

    @cached_property
    def numbers(self) -> list[str]:
        """The fractions of the body."""
        return unique(held_fields(self.scan.graph), {*self.template, *self.ports.values(), *self.starts.values()})

    @cached_property
    def outputs(self) -> list[str]:
        """What is yielded."""
        taken = {*self.template, *self.ports.values(), *self.starts.values(), *self.numbers}
        graph = self.scan.graph
        return unique((f"{called(graph.node(value.node))}_out" for value in self.scan.yields), taken)

    def taken(self) -> set[str]:
        """Names that nothing else may have."""
        return {*self.template, *self.ports.values(), *self.starts.values(), *self.numbers, *self.outputs, *self.slopes}

    @property
    def slopes(self) -> list[str]:
        """What slopes of results and carries, and sums of slopes, are called."""
        moved = [f"{kind}_{word}" for kind in ("next", "slope", "sum") for word in self.ports.values()]
        return [*(f"grad_{word}" for word in self.outputs), *moved]


def features(scan: FusedScan, name: str) -> dict[str, Any]:
    """The names, statements and results of the kernels of a scan."""
    words, graph = Words(scan), scan.graph
    held = {(id, field): word for (id, field, _), word in zip(fractions(graph), words.numbers, strict=True)}
    given = {graph.inputs[port].node: word for port, word in words.ports.items()}
    tape = Tape()
    steps = taped(tape, graph, given, held, lambda type_: TILE)
    ends = [steps[value.node] for _, value in graph.outputs]
    results: dict[int, int] = {}
    for end, word in zip(ends, [*(f"slope_{words.ports[p]}" for p in scan.carries), *_grads(words)], strict=True):
        slope = tape.read(word, TILE)
        results[end] = tape.put("add", results[end], slope) if end in results else slope
    slopes = {tape.steps[step].text: slope for step, slope in backward(tape, results).items()}
    plain = Plain(graph, {node: _now(scan, words, word) for node, word in given.items()}, held)
    count = len(scan.carries)
    back = {port: slopes[word] for port, word in words.ports.items()}
    return {
        "name": name,
        "formula": ", ".join(scan.operations),
        "reverse": scan.reverse,
        "carries": _carries(words),
        "each": [{"name": words.ports[port], "now": _now(scan, words, words.ports[port])} for port in scan.each],
        "whole": [words.ports[port] for port in scan.fixed],
        "partial": [words.ports[port] for port in scan.each if not scan.is_full(port)],
        "full": next(words.ports[port] for port in scan.each if scan.is_full(port)),
        "numbers": words.numbers,
        "outputs": words.outputs,
        "forward": _written(words, tape, ends[:count], ends[count:]),
        "walk": _written(words, tape, ends[:count]),
        "backward": _written(
            words, tape, [back[p] for p in (*scan.fixed, *scan.carries)], [back[p] for p in scan.each]
        ),
        "plain": (plain.lines, plain.results[:count], plain.results[count:]),
        "functional": "F." in "".join([*plain.lines, *plain.results]),
    }


def _carries(words: Words) -> list[dict[str, Any]]:
    """The carries: what they start from is a tensor or a number."""
    scan = words.scan
    return [{"name": words.ports[p], "start": words.starts[p], "number": p in scan.starts} for p in scan.carries]


def _grads(words: Words) -> list[str]:
    return [f"grad_{word}" for word in words.outputs]


def _now(scan: FusedScan, words: Words, word: str) -> str:
    """A tensor at one position."""
    each = {words.ports[port] for port in scan.each}
    return f"{word}_{scan.axis.name}" if word in each else word


def _written(words: Words, tape: Tape, held: Sequence[int], stored: Sequence[int] = ()) -> dict[str, list[str]]:
    """The statements that lead to some steps, what stays in registers, what is stored, and what is read for all."""
    text = Written(tape, [*held, *stored], words.taken())
    stays, leaves = text.results[: len(held)], text.results[len(held) :]
    return {"lines": text.lines, "held": stays, "stored": list(map(tight, leaves)), "reads": text.reads}
