"""What an operation holds in memory, and the most of several sums of bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import product as every
from math import prod

from archlang.sizes import FUNCTIONS, Atom, Poly, Rational, Size, compare, maximum, symbols


@dataclass(frozen=True, slots=True)
class Memory:
    """What one application of an operation holds, its inputs and outputs aside, in bytes.

    keeps: the inputs that the backward pass reads, each with the input whose gradient asks for it, "" for any;
    output: whether it reads the outputs; kept: what else it reads;
    work: what comes and goes in a forward pass without gradients, as much as is kept where it is None;
    back: what comes and goes in the backward pass;
    view: whether the output lies in the memory of the first input; weight: whether it is a weight;
    passes: the inputs whose gradient is that of the output, uncopied;
    constant: what its module holds besides weights;
    order: how the axes of the output lie in memory, where that does not follow from the inputs.
    """

    keeps: Mapping[str, str] = field(default_factory=dict)
    output: bool = False
    kept: Size = 0
    work: Size | None = None
    back: Size = 0
    view: bool = False
    weight: bool = False
    passes: tuple[str, ...] = ()
    constant: Size = 0
    order: tuple[str, ...] | None = None


class Peak:
    """The largest of several sums of bytes, of which free sizes decide which it is."""

    __slots__ = ("_sums",)

    def __init__(self, sums: Iterable[Size] = ()) -> None:
        self._sums: list[Size] = []
        for size in sums:
            self.meet(size)

    def meet(self, size: Size) -> None:
        """Count one more sum; what is never the largest is forgotten."""
        if any((sign := compare(known, size)) is not None and sign >= 0 for known in self._sums):
            return
        self._sums = [known for known in self._sums if compare(size, known) != 1] + [size]
        if len(self._sums) > _MANY:
            self._sums = _largest(self._sums)

    def above(self, base: Size) -> Iterable[Size]:
        """The sums, each on top of a base."""
        return (base + size for size in self._sums)

    @property
    def size(self) -> Size:
        """As one size."""
        zero: Size = 0
        return reduce(maximum, _largest(self._sums) if len(self._sums) > 1 else self._sums, zero)


_MANY = 12
_SAMPLES = (1, 4, 16, 64, 256, 1024)


def _largest(sums: list[Size]) -> list[Size]:
    """Those that are the largest somewhere on a grid of free sizes."""
    free = sorted(set().union(*(symbols(size) for size in sums if isinstance(size, Poly))))
    found: dict[int, None] = {}
    for values in every(_SAMPLES, repeat=min(len(free), 3)):
        sizes = dict(zip(free, values, strict=False))
        sizes |= dict.fromkeys(free[3:], values[-1])
        known: dict[int, Rational] = {}
        numbers = [evaluate(size, sizes, known) for size in sums]
        found[max(range(len(sums)), key=lambda i, numbers=numbers: numbers[i])] = None  # type: ignore[misc]
    return [sums[i] for i in sorted(found)]


def evaluate(size: Size, values: Mapping[str, int], known: dict[int, Rational]) -> Rational:
    """`size` as a number, at values of all its free sizes; `known` holds those of its atoms there, by identity."""
    if not isinstance(size, Poly):
        return size
    return sum(
        x * prod(_number(atom, values, known) ** power for atom, power in monomial) for monomial, x in size.terms
    )


def _number(atom: Atom, values: Mapping[str, int], known: dict[int, Rational]) -> Rational:
    if not atom.arguments:
        return values[atom.name]
    if id(atom) not in known:
        found = FUNCTIONS[atom.name](*(evaluate(argument, values, known) for argument in atom.arguments))
        assert not isinstance(found, Poly)
        known[id(atom)] = found
    return known[id(atom)]
