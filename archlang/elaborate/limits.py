"""Elaboration is total: every file ends within these bounds or with an error that has a place."""

from dataclasses import dataclass

from archlang.diagnostics import ArchError, error
from archlang.source import Span

MAX_STEPS = 20_000_000
MAX_NODES = 1_000_000
MAX_DEPTH = 64
MAX_LIST = 1_000_000
MAX_BITS = 4_096


@dataclass
class Budget:
    """What one elaboration has used."""

    steps: int = 0
    nodes: int = 0

    def step(self, span: Span) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise error("A811", f"the file takes more than {MAX_STEPS:,} steps to read", span)

    def node(self, span: Span) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise error("A812", f"the network has more than {MAX_NODES:,} operations", span)


def check_length(length: object, span: Span) -> None:
    """Refuse lists and loops that are too long."""
    if isinstance(length, int) and length > MAX_LIST:
        raise error("A813", f"more than {MAX_LIST:,} items", span)


def too_deep(span: Span) -> ArchError:
    return error("A814", f"blocks are nested more than {MAX_DEPTH} deep", span)


def check_number(value: object, span: Span) -> None:
    """Refuse exact numbers of absurd size."""
    for part in (getattr(value, "numerator", 0), getattr(value, "denominator", 1)):
        if isinstance(part, int) and part.bit_length() > MAX_BITS:
            raise error("A815", "the number is too large", span)
