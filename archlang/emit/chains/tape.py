"""Arithmetic as a list of steps: what a tile of numbers goes through."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["number", "column", "row", "tile"]


@dataclass(frozen=True, slots=True)
class Step:
    """An operation on earlier steps; what is `read` has a name instead."""

    op: str
    args: tuple[int, ...] = ()
    text: str = ""  # of what is read, and of numbers


class Tape:
    """Steps, equal ones once. A value has a number for all, one a row, one a column, or one an element."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.kinds: list[Kind] = []
        self.hints: dict[int, str] = {}
        self._known: dict[Step, int] = {}

    def read(self, name: str, kind: Kind) -> int:
        return self._add(Step("read", text=name), kind)

    def number(self, value: float | str) -> int:
        return self._add(Step("read", text=str(value)), "number")

    def put(self, op: str, *args: int) -> int:
        """One step; a sum is over a row."""
        if op == "mul" and "1.0" in (texts := [self.steps[a].text for a in args]):
            return args[1 - texts.index("1.0")]
        kind: Kind = "row" if op == "sum" else _joined(self.kinds[a] for a in args)
        return self._add(Step(op, args), kind)

    def _add(self, step: Step, kind: Kind) -> int:
        if step not in self._known:
            self._known[step] = len(self.steps)
            self.steps.append(step)
            self.kinds.append(kind)
        return self._known[step]

    def hint(self, step: int, name: str) -> None:
        """What a step may be called."""
        self.hints.setdefault(step, name)

    def needed(self, results: Iterable[int]) -> list[int]:
        """The steps that results follow from, in order."""
        waiting, found = list(results), set[int]()
        while waiting:
            if (step := waiting.pop()) not in found:
                found.add(step)
                waiting += self.steps[step].args
        return sorted(found)


def _joined(kinds: Iterable[Kind]) -> Kind:
    found = set(kinds) - {"number"}
    if not found:
        return "number"
    return found.pop() if len(found) == 1 else "tile"
