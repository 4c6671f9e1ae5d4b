"""What the command line prints: tables, JSON, errors and progress. Colour only on a terminal, JSON alone on stdout."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from archlang.diagnostics import Diagnostic, as_dict, render

T = TypeVar("T")


class Format(StrEnum):
    text = "text"
    json = "json"


AsFormat = Annotated[Format, typer.Option("--format", help="json: stdout holds one JSON document and nothing else.")]
BYTES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
UNITS = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))


def table(rows: Iterable[tuple[str, str]], err: bool = False) -> None:
    """Two columns: a dim word, and what there is to say."""
    rows = list(rows)
    width = max((len(word) for word, _ in rows), default=0)
    for word, text in rows:
        typer.echo(f"{typer.style(word.ljust(width), dim=True)}  {text}", err=err)


def document(content: object, err: bool = False) -> None:
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, default=str), err=err)


def failure(diagnostics: Sequence[Diagnostic], as_json: bool) -> None:
    """Errors: one JSON document on stdout, or readable text on stderr."""
    if as_json:
        document({"ok": False, "diagnostics": [as_dict(diagnostic) for diagnostic in diagnostics]})
    else:
        print_diagnostics(diagnostics)


def print_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    color = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for diagnostic in diagnostics:
        typer.echo(render(diagnostic, color) + "\n", err=True)


def count(amount: int | str) -> str:
    """`30,916,528` for a number (with `(30.9M)` where that says more), and an expression as it is."""
    if isinstance(amount, str):
        return amount
    number = round(amount)
    unit, scale = next(((u, s) for u, s in UNITS if abs(number) >= s), ("", 1))
    return f"{number:,} ({number / scale:.3g}{unit})" if unit else str(number)


def progress(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, with a bar on stderr where there are several and somebody is watching."""
    if len(items) < 2 or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, console=Console(stderr=True), transient=True)


@contextmanager
def status(what: str) -> Iterator[None]:
    """A spinner on stderr while a step lasts."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def size(number: int) -> str:
    """`12.3 MiB`."""
    unit, scale = next(((u, s) for u, s in BYTES if number >= s), ("bytes", 1))
    return f"{number / scale:.1f} {unit}" if scale > 1 else f"{number} {unit}"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
