"""Errors as data: code, title, labelled spans, help. The only place where an error becomes text."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from archlang.source import Source, Span


@dataclass(frozen=True, slots=True)
class Label:
    """A span and what to say under it."""

    span: Span
    text: str = ""


@dataclass(frozen=True)
class Diagnostic:
    """One finding. The first label is the place to blame; the others are where its parts came from."""

    code: str
    title: str
    labels: tuple[Label, ...] = ()
    help: str | None = None
    severity: str = "error"

    @property
    def key(self) -> tuple[object, ...]:
        place = [(label.span.source.name, label.span.start) for label in self.labels[:1]]
        return (self.code, self.title, *place)


class ArchError(Exception):
    """One or more diagnostics, in the order in which they were found."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(*diagnostics)
        self.diagnostics = diagnostics

    def __str__(self) -> str:
        return "\n\n".join(render(diagnostic) for diagnostic in self.diagnostics)


def error(code: str, title: str, *labels: Label | Span | None, help: str | None = None) -> ArchError:
    """The exception for one diagnostic; a bare span is a label without words."""
    made = tuple(Label(label) if isinstance(label, Span) else label for label in labels if label is not None)
    return ArchError(Diagnostic(code, title, made, help))


@dataclass
class Collector:
    """Gathers diagnostics so that one run reports every mistake of a file."""

    found: list[Diagnostic] = field(default_factory=list)

    def add(self, *diagnostics: Diagnostic) -> None:
        known = {diagnostic.key for diagnostic in self.found}
        self.found.extend(d for d in diagnostics if d.key not in known)

    @contextmanager
    def catch(self) -> Iterator[None]:
        """Run a step; its errors are kept and the run goes on."""
        try:
            yield
        except ArchError as failure:
            self.add(*failure.diagnostics)

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.found if d.severity == "error"]

    def check(self) -> None:
        """Raise what was collected, if it holds an error."""
        if self.errors:
            raise ArchError(*self.found)


def suggest(word: str, known: Iterable[str]) -> str | None:
    """`did you mean ...?` for the nearest known word, or None."""
    from difflib import get_close_matches

    close = get_close_matches(word, sorted(set(known)), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None


# ---- as data
def as_dict(diagnostic: Diagnostic) -> dict[str, Any]:
    """The diagnostic as plain data, for `--format json`; its place is that of the first label."""
    labels = [_place(label.span) | {"text": label.text} for label in diagnostic.labels]
    place = _place(diagnostic.labels[0].span) if labels else dict.fromkeys(_PLACE)
    about = {"code": diagnostic.code, "severity": diagnostic.severity, "title": diagnostic.title}
    return about | place | {"labels": labels, "help": diagnostic.help}


def to_json(diagnostics: Iterable[Diagnostic]) -> str:
    """A JSON list, one object a diagnostic."""
    import json

    return json.dumps([as_dict(diagnostic) for diagnostic in diagnostics], indent=2, ensure_ascii=False)


_PLACE = ("file", "line", "column", "end_line", "end_column")


def _place(span: Span) -> dict[str, Any]:
    return dict(zip(_PLACE, (span.source.name, *span.position, *span.source.position(span.end)), strict=True))


# ---- as text
COLORS = {"error": "1;31", "warning": "1;33", "-": "1;34", "help": "1;36", "title": "1"}
TAB = "    "
WIDEST = 160


@dataclass(frozen=True)
class _Mark:
    """The underlined columns of one line (from 0), and the words of the label that ends there."""

    start: int
    end: int
    sign: str
    text: str


def render(diagnostic: Diagnostic, color: bool = False) -> str:
    """The diagnostic as the user sees it: title, each file's labelled lines, help."""

    def paint(text: str, role: str) -> str:
        return f"\x1b[{COLORS[role]}m{text}\x1b[0m" if color else text

    head = paint(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity)
    rows = [head + paint(f": {diagnostic.title}", "title")]
    sources = {id(label.span.source): label.span.source for label in diagnostic.labels}
    lines = {id_: _marks(source, diagnostic) for id_, source in sources.items()}
    gutter = max((len(str(number)) for marks in lines.values() for number in marks), default=1)
    edge = paint(" " * gutter + " |", "-")
    for source in sources.values():
        first = next(label.span for label in diagnostic.labels if label.span.source is source)
        rows.append(paint(" " * gutter + ("-->" if len(rows) == 1 else ":::"), "-") + f" {first}")
        rows.append(edge)
        for number, marks in sorted(lines[id(source)].items()):
            text, marks = _visible(source.line(number), marks)
            rows.append((paint(f"{number:>{gutter}} |", "-") + f" {text}").rstrip())
            rows += [f"{edge} {row}" for row in _underlines(marks, lambda t, m: paint(t, _role(m, diagnostic)))]
        rows.append(edge)
    if diagnostic.help:
        rows += _help(diagnostic.help, paint(" " * gutter + " =", "-"), paint("help", "help"), gutter)
    return "\n".join(rows)


def _role(mark: _Mark, diagnostic: Diagnostic) -> str:
    return diagnostic.severity if mark.sign == "^" else "-"


def _help(text: str, edge: str, word: str, gutter: int) -> list[str]:
    first, *more = text.splitlines()
    return [f"{edge} {word}: {first}", *(" " * (gutter + 9) + line for line in more)]


def _marks(source: Source, diagnostic: Diagnostic) -> dict[int, list[_Mark]]:
    """By line: what the labels of `source` underline. A label over several lines shows its first and last."""
    found: dict[int, list[_Mark]] = {}
    for place, label in enumerate(diagnostic.labels):
        if label.span.source is not source:
            continue
        sign = "-" if place else "^"
        (top, start), (bottom, end) = source.position(label.span.start), source.position(label.span.end)
        if top != bottom:
            found.setdefault(top, []).append(_Mark(start - 1, len(source.line(top)), sign, ""))
            last = source.line(bottom)
            start = len(last) - len(last.lstrip()) + 1
        found.setdefault(bottom, []).append(_Mark(start - 1, max(end - 1, start), sign, label.text))
    return found


def _visible(line: str, marks: list[_Mark]) -> tuple[str, list[_Mark]]:
    """A line as a terminal shows it (tabs, wide and control characters), cut to its marks, and these moved along."""
    cells = [_cell(char) for char in line]
    first = max(0, min(mark.start for mark in marks) - WIDEST // 2) if len(line) > WIDEST else 0
    last = first + WIDEST
    edges = [0] if not first else [0] * first + [1]
    for cell in cells[first:last]:
        edges.append(edges[-1] + _width(cell))

    def column(place: int) -> int:
        return edges[place] if place < len(edges) else edges[-1] + min(place, last) - len(edges) + 1

    text = ("…" if first else "") + "".join(cells[first:last]) + ("…" if len(line) > last else "")
    return text, [
        replace(mark, start=column(mark.start), end=max(column(mark.end), column(mark.start) + 1)) for mark in marks
    ]


def _cell(char: str) -> str:
    if char == "\t":
        return TAB
    return char if char.isprintable() else "\N{REPLACEMENT CHARACTER}"


def _width(cell: str) -> int:
    if cell.isascii():
        return len(cell)
    import unicodedata

    return 0 if unicodedata.combining(cell) else 2 if unicodedata.east_asian_width(cell) in "WF" else 1


def _underlines(marks: list[_Mark], paint: Callable[[str, _Mark], str]) -> list[str]:
    """The rows under a line: every underline in one, with the last label's words; the others' words below, last first."""
    marks = sorted(marks, key=lambda mark: (mark.start, mark.end))
    rows = [_row([(mark, mark.sign * (mark.end - mark.start)) for mark in marks], paint)]
    spoken = [mark for mark in marks if mark.text]
    if spoken and spoken[-1] is marks[-1]:
        rows[0] += " " + paint(spoken.pop().text, marks[-1])
    while spoken:
        mark = spoken.pop()
        rows.append(_row([*((left, "|") for left in spoken if left.start < mark.start), (mark, mark.text)], paint))
    return rows


def _row(pieces: list[tuple[_Mark, str]], paint: Callable[[str, _Mark], str]) -> str:
    """Each text at the start of its mark; what is already covered is left out."""
    row, column = "", 0
    for mark, text in pieces:
        text = text[max(0, column - mark.start) :]
        start = max(mark.start, column)
        row += " " * (start - column) + (paint(text, mark) if text else "")
        column = start + len(text)
    return row
