"""The examples, made small for tests: a file per family, each with its list `TOYS` and,
where it brings blocks of the standard library, `BLOCKS`."""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Toy:
    """A model of an example with settings that make it small, and free sizes to run it at."""

    name: str
    file: str
    model: str
    variant: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[dict[str, int], ...] = ({"b": 2}, {"b": 3}, {"b": 5})


def all_toys() -> list[Toy]:
    """The toys of all families, those of `foundation` first."""
    return [toy for family in _families() for toy in family.TOYS]


def family_blocks() -> list[tuple[str, str, str]]:
    """The blocks of the standard library that families bring: what is used, the type of x, what is made of it."""
    return [block for family in _families() for block in getattr(family, "BLOCKS", ())]


def _families() -> list[Any]:
    files = Path(__file__).parent.glob("[!_]*.py")
    names = sorted((file.stem for file in files), key=lambda name: (name != "foundation", name))
    return [import_module(f"tests.toys.{name}") for name in names]
