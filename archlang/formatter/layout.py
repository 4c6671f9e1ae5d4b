"""Lines from a document: text that knows where it may break, filled to a width (after Wadler, "A prettier printer")."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import TypeAlias

STEP = 2
DEEPEST_ALIGNMENT = 72


@dataclass(frozen=True)
class Line:
    """A break: a new line, or `flat` where the group around it fits."""

    flat: str = " "
    hard: bool = False  # never flat


@dataclass(frozen=True)
class Nest:
    """What follows a break in `doc` is indented one step."""

    doc: "Doc"


@dataclass(frozen=True)
class Align:
    """What follows a break in `doc` begins in the column where `doc` begins, if that is not too far right."""

    doc: "Doc"


@dataclass(frozen=True)
class Group:
    """All of it on one line, or every break of its own is one."""

    doc: "Doc"

    @cached_property
    def breaks(self) -> bool:
        return breaks(self.doc)


@dataclass(frozen=True)
class Fill:
    """Items with a space between, as many on a line as fit; those in `starts` begin a line unless all fit on one."""

    items: Sequence["Doc"]
    starts: frozenset[int] = frozenset()
    done: int = 0  # items already written

    @cached_property
    def breaks(self) -> bool:
        return any(map(breaks, self.items))

    @cached_property
    def flat(self) -> "Doc":
        return [piece for i, item in enumerate(self.items) for piece in ((" ", item) if i else (item,))]


@dataclass(frozen=True)
class Suffix:
    """Text for the end of the current line, however it goes on: a comment."""

    text: str


Doc: TypeAlias = "str | Sequence[Doc] | Line | Nest | Align | Group | Fill | Suffix"
Entry: TypeAlias = tuple[int, bool, Doc]  # indentation, whether flat, what


def breaks(doc: Doc) -> bool:
    """Whether `doc` cannot be on one line."""
    if isinstance(doc, str):
        return False
    if isinstance(doc, Suffix):
        return True
    if isinstance(doc, Line):
        return doc.hard
    if isinstance(doc, Group | Fill):
        return doc.breaks
    if isinstance(doc, Nest | Align):
        return breaks(doc.doc)
    return any(map(breaks, doc))


def flattened(doc: Doc) -> str:
    """The text of `doc` on one line."""
    if isinstance(doc, str):
        return doc
    return doc.flat if isinstance(doc, Line) else "".join(flattened(part) for _, part in _parts(doc, True))


class Printer:
    """Writes a document from left to right; `stack` holds what is still to come, the next on top."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[str] = [""]
        self.suffixes: list[str] = [""]
        self.stack: list[Entry] = []

    @property
    def column(self) -> int:
        return len(self.lines[-1])

    def print(self, doc: Doc) -> str:
        self.stack.append((0, False, doc))
        while self.stack:
            self.step(*self.stack.pop())
        return "".join(f"{line}\n" for line in self.joined())

    def joined(self) -> Iterator[str]:
        """The lines with their suffixes, which stand in one column where several follow each other."""
        for commented, run in groupby(zip(self.lines, self.suffixes, strict=True), key=lambda pair: bool(pair[1])):
            pairs = list(run)
            column = max(len(line.rstrip()) for line, _ in pairs)
            yield from (line.rstrip().ljust(column * commented) + suffix for line, suffix in pairs)

    def newline(self, indent: int) -> None:
        self.lines.append(" " * indent)
        self.suffixes.append("")

    def step(self, indent: int, flat: bool, doc: Doc) -> None:
        if isinstance(doc, str):
            self.lines[-1] += doc
        elif isinstance(doc, Suffix):
            self.suffixes[-1] += doc.text
        elif isinstance(doc, Line):
            if flat:
                self.lines[-1] += doc.flat
            else:
                self.newline(indent)
        elif isinstance(doc, Nest):
            self.stack.append((indent + STEP, flat, doc.doc))
        elif isinstance(doc, Align):
            self.stack.append((self.column if self.column <= DEEPEST_ALIGNMENT else indent + 2 * STEP, flat, doc.doc))
        elif isinstance(doc, Group):
            self.stack.append((indent, flat or (not doc.breaks and self.fits([doc.doc])), doc.doc))
        elif isinstance(doc, Fill):
            self.fill(indent, flat, doc)
        else:
            self.stack += [(indent, flat, part) for part in reversed(doc)]

    def fill(self, indent: int, flat: bool, doc: Fill) -> None:
        """Write one item; the rest waits on the stack."""
        if flat or (not doc.done and not doc.breaks and self.fits(doc.flat)):
            self.stack.append((indent, True, doc.flat))
            return
        item = doc.items[doc.done]
        if doc.done + 1 < len(doc.items):
            self.stack.append((indent, False, replace(doc, done=doc.done + 1)))
        if doc.done and (doc.done in doc.starts or breaks(item) or not self.fits([" ", item])):
            self.newline(indent)
        elif doc.done:
            self.lines[-1] += " "
        self.stack.append((indent, False, item))

    def fits(self, doc: Doc) -> bool:
        """Whether `doc`, flat, and what follows it up to the next break have room on this line."""
        room, todo, rest = self.width - self.column, [(True, doc)], len(self.stack)
        while room >= 0 and (todo or rest):
            if not todo:
                rest -= 1
                todo.append(self.stack[rest][1:])
            flat, part = todo.pop()
            if isinstance(part, str):
                room -= len(part)
            elif isinstance(part, Line):
                if part.hard or not flat:
                    return True
                room -= len(part.flat)
            elif isinstance(part, Fill) and not flat and part.done:
                return True
            else:
                todo += reversed(_parts(part, flat))
        return room >= 0


def _parts(doc: Doc, flat: bool) -> list[tuple[bool, Doc]]:
    """What a document consists of, each with whether it is flat."""
    if isinstance(doc, Suffix | Line | str):
        return []
    if isinstance(doc, Nest | Align):
        return [(flat, doc.doc)]
    if isinstance(doc, Group):
        return [(flat and not doc.breaks, doc.doc)]
    if isinstance(doc, Fill):
        return [(flat, doc.flat)] if flat else [(False, doc.items[0]), (False, Line())]
    return [(flat, part) for part in doc]


def lay_out(doc: Doc, width: int) -> str:
    """The text of `doc`, ending in a line break."""
    return Printer(width).print(doc)
