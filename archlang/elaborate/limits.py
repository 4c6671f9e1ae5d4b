"""Elaboration is total: every file ends within these bounds or with an error that has a place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from sys import float_info

from archlang.diagnostics import ArchError, error
from archlang.primitive import LARGEST, AxisMap
from archlang.sizes import Poly
from archlang.source import Span

FREE_STEPS = 100_000
STEPS_PER_NODE = 100
MAX_NODES = 1_000_000
MAX_INLINED = 2_000
MAX_DEPTH = 64
MAX_LOOP = 1_000_000
MAX_LIST = 100_000
MAX_NESTED = 100
MAX_LAYER = 2_000
MAX_PORTS = 1_000
MAX_MISTAKES = 100
MAX_TERMS = 64
MAX_SIZE = 2**40
MAX_BITS = 4_096


@dataclass
class Budget:
    """What one elaboration has used: steps of compile-time code in proportion to the operations that they make."""

    steps: int = 0
    nodes: int = 0
    inlined: int = 0  # blocks without weights in the outermost one of these

    def step(self, span: Span) -> None:
        self.steps += 1
        if self.steps > FREE_STEPS + STEPS_PER_NODE * self.nodes:
            raise error("A811", f"more than {self.steps - 1:,} steps of computing for {self.nodes:,} operations", span)

    @contextmanager
    def inline(self, span: Span, outermost: bool) -> Iterator[None]:
        """Elaborate a block in place; one that calls others twice, which do so again, would never end."""
        before = self.inlined
        self.inlined = 1 if outermost else before + 1
        if self.inlined > MAX_INLINED:
            raise error("A814", f"a block without weights calls more than {MAX_INLINED:,} others", span)
        yield
        if outermost:
            self.inlined = before

    def node(self, span: Span) -> None:
        self.nodes += 1
        check_network(self.nodes, span)


def check_network(operations: int, span: Span) -> None:
    """Refuse networks that are too large, with what is called twice counted twice."""
    if operations > MAX_NODES:
        raise error("A812", f"the network has more than {MAX_NODES:,} operations", span)


def check_length(length: object, span: Span, most: int = MAX_LIST) -> None:
    """Refuse lists and loops that are too long."""
    if isinstance(length, int) and length > most:
        raise error("A813", f"a {'list' if most == MAX_LIST else 'loop'} of more than {most:,} items", span)


def check_ports(count: int, word: str, span: Span) -> None:
    """Refuse models that nobody could call."""
    if count > MAX_PORTS:
        raise error("A813", f"a model with more than {MAX_PORTS:,} {word}s", span)


def too_many_mistakes(span: Span) -> ArchError:
    return error("A816", f"more than {MAX_MISTAKES} mistakes: the rest of the file is not checked", span)


def _terms(size: object) -> int:
    """The terms of a size, with those inside of `floor`, `max` and `min`."""
    atoms = [atom for monomial, _ in size.terms for atom, _ in monomial] if isinstance(size, Poly) else []
    return len(atoms) + sum(_terms(argument) for atom in atoms for argument in atom.arguments)


def too_deep(span: Span) -> ArchError:
    return error("A814", f"blocks are nested more than {MAX_DEPTH} deep", span)


def check_number(value: object, span: Span) -> None:
    """Refuse numbers beyond all floats, exact ones of absurd length, and sizes of absurd form."""
    if isinstance(value, Poly) and _terms(value) > MAX_TERMS:
        raise error("A815", "the size is too complicated", span)
    parts = (getattr(value, "numerator", 0), getattr(value, "denominator", 1))
    long = any(isinstance(part, int) and part.bit_length() > MAX_BITS for part in parts)
    if long or (isinstance(value, int | Fraction) and not -float_info.max <= value <= float_info.max):
        raise error("A815", "the number is too large", span)


def check_countable(name: str, value: object, span: Span) -> None:
    """Refuse whole numbers of an operation that no machine counts to."""
    items = [part for _, part in value.items] if isinstance(value, AxisMap) else value
    for item in items if isinstance(items, list | tuple) else [items]:
        if isinstance(item, list | tuple):
            check_countable(name, item, span)
        elif isinstance(item, int) and abs(item) > LARGEST:
            raise error("A815", f"`{name}` is more than {LARGEST:,}", span)
