"""Errors as data: code, title, labelled spans, help. The only place where an error becomes text."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
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
        """Findings with one key are one: the same words at one place, or about one unknown name of a file."""
        start = [] if self.code == "A101" else [label.span.start for label in self.labels[:1]]
        return (self.code, self.title, *(label.span.source.name for label in self.labels[:1]), *start)


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
    """`did you mean ...?` for the nearest known word, or None. Underscores and case do not count; `epsilon` is near to
    `eps`.
    """
    from difflib import get_close_matches

    plain = {_plain(name): name for name in sorted(set(known), reverse=True)}
    near = get_close_matches(_plain(word), plain, n=1, cutoff=0.7)
    found = [plain[name] for name in near or _begins(_plain(word), plain) if plain[name] != word]
    return f"did you mean `{found[0]}`?" if found else None


def _begins(word: str, known: Iterable[str]) -> list[str]:
    """The words that begin a word or that it begins, the longest first."""
    found = [name for name in known if min(len(word), len(name)) > 2]
    return sorted((name for name in found if name.startswith(word) or word.startswith(name)), key=len, reverse=True)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


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
COLORS = {"error": "1;31", "warning": "1;33", "edge": "1;34", "help": "1;36", "title": "1"}
TAB = "    "
WIDEST = 160
Paint = Callable[[str, str], str]


@dataclass(frozen=True)
class _Mark:
    """The underlined columns of one line (from 0), and the words of the label that ends there."""

    start: int
    end: int
    sign: str
    role: str
    text: str


def render(diagnostic: Diagnostic, color: bool = False) -> str:
    """The diagnostic as the user sees it: title, each file's labelled lines, help."""

    def paint(text: str, role: str) -> str:
        return f"\x1b[{COLORS[role]}m{text}\x1b[0m" if color else text

    sources = list({id(label.span.source): label.span.source for label in diagnostic.labels}.values())
    files = [_marks(source, diagnostic) for source in sources]
    gutter = max((len(str(number)) for lines in files for number in lines), default=1)
    title = paint(f": {diagnostic.title}", "title")
    rows = [paint(f"{diagnostic.severity}[{diagnostic.code}]", diagnostic.severity) + title]
    for source, lines in zip(sources, files, strict=True):
        first = next(label.span for label in diagnostic.labels if label.span.source is source)
        rows.append(paint(" " * gutter + ("-->" if len(rows) == 1 else ":::"), "edge") + f" {first}")
        rows += _snippet(source, lines, gutter, paint)
    if diagnostic.help:
        first_line, *more = diagnostic.help.splitlines()
        rows.append(f"{paint(' ' * gutter + ' =', 'edge')} {paint('help', 'help')}: {first_line}")
        rows += [" " * (gutter + 9) + line for line in more]
    elif sources:
        rows.pop()
    return "\n".join(rows)


def _snippet(source: Source, lines: dict[int, list[_Mark]], gutter: int, paint: Paint) -> Iterator[str]:
    """The marked lines of a file, each with its number and what is said about it."""
    edge = paint(" " * gutter + " |", "edge")
    yield edge
    for number, marks in sorted(lines.items()):
        text, shown = _visible(source.line(number), marks)
        yield (paint(f"{number:>{gutter}} |", "edge") + f" {text}").rstrip()
        yield from (f"{edge} {row}" for row in _underlines(shown, paint))
    yield edge


def _marks(source: Source, diagnostic: Diagnostic) -> dict[int, list[_Mark]]:
    """By line: what the labels of `source` underline. A label over several lines shows its first and last."""
    found: dict[int, list[_Mark]] = {}
    for place, label in enumerate(diagnostic.labels):
        if label.span.source is not source:
            continue
        sign, role = ("-", "edge") if place else ("^", diagnostic.severity)
        (top, start), (bottom, end) = source.position(label.span.start), source.position(label.span.end)
        if top != bottom:
            found.setdefault(top, []).append(_Mark(start - 1, len(source.line(top)), sign, role, ""))
            last = source.line(bottom)
            start = len(last) - len(last.lstrip()) + 1
        found.setdefault(bottom, []).append(_Mark(start - 1, max(end - 1, start), sign, role, label.text))
    return found


def _visible(line: str, marks: list[_Mark]) -> tuple[str, list[_Mark]]:
    """A line as a terminal shows it (tabs, wide and control characters), cut to its marks, and these moved along."""
    first = max(0, min(mark.start for mark in marks) - WIDEST // 2) if len(line) > WIDEST else 0
    cells = [_cell(char) for char in line[first : first + WIDEST]]
    before, after = "…" if first else "", "…" if len(line) > first + WIDEST else ""
    edges = list(accumulate(map(_width, cells), initial=len(before)))

    def column(place: int) -> int:
        return edges[min(max(place - first, 0), len(cells))]

    moved = [
        replace(mark, start=column(mark.start), end=max(column(mark.end), column(mark.start) + 1)) for mark in marks
    ]
    return before + "".join(cells) + after, moved


def _cell(char: str) -> str:
    if char == "\t":
        return TAB
    return char if char.isprintable() else "\N{REPLACEMENT CHARACTER}"


def _width(cell: str) -> int:
    if cell.isascii():
        return len(cell)
    import unicodedata

    return 0 if unicodedata.combining(cell) else 2 if unicodedata.east_asian_width(cell) in "WF" else 1


def _underlines(marks: list[_Mark], paint: Paint) -> list[str]:
    """The rows under a line: all underlines in one, with the last label's words; then the others' words, last first."""
    marks = sorted(marks, key=lambda mark: (mark.start, mark.end))
    spoken = [mark for mark in marks if mark.text]
    rows = [_signs(marks, paint)]
    if spoken and spoken[-1] is marks[-1]:
        rows[0] += " " + paint(spoken.pop().text, marks[-1].role)
    while spoken:
        mark = spoken.pop()
        rows.append(_row([*((left, "|") for left in spoken if left.start < mark.start), (mark, mark.text)], paint))
    return rows


def _signs(marks: list[_Mark], paint: Paint) -> str:
    """The underlines; that of the first label lies over the others."""
    cells: list[_Mark | None] = [None] * max(mark.end for mark in marks)
    for mark in sorted(marks, key=lambda mark: mark.sign == "^"):
        cells[mark.start : mark.end] = [mark] * (mark.end - mark.start)
    runs = [(mark, len(list(run))) for mark, run in groupby(cells)]
    return "".join(paint(mark.sign * length, mark.role) if mark else " " * length for mark, length in runs)


def _row(pieces: list[tuple[_Mark, str]], paint: Paint) -> str:
    """Each text at the start of its mark; what is already covered is left out."""
    row, column = "", 0
    for mark, text in pieces:
        rest = text[max(0, column - mark.start) :]
        start = max(mark.start, column)
        row += " " * (start - column) + (paint(rest, mark.role) if rest else "")
        column = start + len(rest)
    return row
