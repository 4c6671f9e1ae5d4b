"""Errors as data: code, title, labelled spans, help. The only place where an error becomes text."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches

from archlang.source import Span


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
    close = get_close_matches(word, sorted(set(known)), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None


def render(diagnostic: Diagnostic, color: bool = False) -> str:
    """The diagnostic as the user sees it."""
    lines = [f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.title}"]
    lines += [f"  --> {label.span}: {label.text}" for label in diagnostic.labels]
    return "\n".join([*lines, *([f"   = help: {diagnostic.help}"] if diagnostic.help else [])])
