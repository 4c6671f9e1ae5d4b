"""Arithmetic as a list of steps: what a tile of numbers goes through."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Kind: TypeAlias = frozenset[str] | None  # the lanes along which a value differs; None for numbers that all share
COLUMN = "column"  # the lane of a chain: the numbers of a row, side by side
ROW: Kind = frozenset()
TILE: Kind = frozenset({COLUMN})


@dataclass(frozen=True, slots=True)
class Step:
    """An operation on earlier steps; what is `read` has a name instead."""

    op: str
    args: tuple[int, ...] = ()
    text: str = ""  # of what is read, and of numbers; else the lane of a sum, or what a lane becomes


class Tape:
    """Steps, equal ones once. `widths` says how many numbers lie along each lane."""

    def __init__(self, widths: Mapping[str, str] | None = None) -> None:
        self.widths = widths or {COLUMN: "width"}
        self.steps: list[Step] = []
        self.kinds: list[Kind] = []
        self.hints: dict[int, str] = {}
        self._known: dict[Step, int] = {}

    def read(self, name: str, kind: Kind) -> int:
        return self._add(Step("read", text=name), kind)

    def number(self, value: float | str) -> int:
        return self._add(Step("read", text=str(value)), None)

    def width(self, lane: str) -> int:
        """How many numbers lie along a lane."""
        return self.number(self.widths[lane])

    def put(self, op: str, *args: int) -> int:
        """One step, element by element."""
        if op == "mul" and "1.0" in (texts := [self.steps[a].text for a in args]):
            return args[1 - texts.index("1.0")]
        return self._add(Step(op, args), _joined(self.kinds[a] for a in args))

    def sum(self, x: int, lane: str) -> int:
        """The sum along a lane: of what is alike along it, so many times that."""
        if lane not in self.lanes(x):
            return self.put("mul", x, self.width(lane))
        return self._add(Step("sum", (x,), lane), self.lanes(x) - {lane})

    def peak(self, x: int, lane: str) -> int:
        """The largest number along a lane, as one without a slope."""
        return self._add(Step("peak", (x,), lane), self.lanes(x) - {lane})

    def below(self, x: int, lane: str) -> int:
        """How far numbers are below the largest along a lane, which has no slope."""
        return self._add(Step("below", (x,), lane), self.lanes(x))

    def move(self, x: int, lane: str, to: str, turned: bool) -> int:
        """The same numbers along another lane; they are turned where that crosses the first."""
        if lane not in self.lanes(x):
            return x
        text = f"{lane} {to}"
        return self._add(Step("turn" if turned else "same", (x,), text), self.lanes(x) - {lane} | {to})

    def lanes(self, x: int) -> frozenset[str]:
        """The lanes along which a step differs."""
        return self.kinds[x] or frozenset()

    def _add(self, step: Step, kind: Kind) -> int:
        if step not in self._known:
            self._known[step] = len(self.steps)
            self.steps.append(step)
            self.kinds.append(kind)
        return self._known[step]

    def hint(self, step: int, name: str) -> None:
        """What a step may be called."""
        self.hints.setdefault(step, name)

    def needed(self, results: Iterable[int], known: Container[int] = ()) -> list[int]:
        """The steps that results follow from, in order, as far as they are not known."""
        waiting, found = list(results), set[int]()
        while waiting:
            if (step := waiting.pop()) not in found:
                found.add(step)
                waiting += () if step in known else self.steps[step].args
        return sorted(found)


def _joined(kinds: Iterable[Kind]) -> Kind:
    found = [kind for kind in kinds if kind is not None]
    return frozenset().union(*found) if found else None
