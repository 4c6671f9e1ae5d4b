"""Exact sizes: integers, rationals and polynomials over symbolic sizes.

A symbolic size is a sum of monomials with rational coefficients. An atom of a monomial is the name of a free size (`b`,
`h`) or an opaque `floor`, `max` or `min`. Constants fold to plain `int` or `Fraction`, so concrete nets never meet a
`Poly`. Every free size is at least 1.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, reduce
from math import lcm, prod
from operator import mul
from typing import TypeAlias, Union

Rational: TypeAlias = int | Fraction
Size: TypeAlias = Union[int, Fraction, "Poly"]
Monomial: TypeAlias = tuple[tuple["Atom", int], ...]


@dataclass(frozen=True, slots=True)
class Atom:
    """A free size (`arguments` is empty) or an opaque function of sizes: `floor(p)`, `max(p, q)`, `min(p, q)`."""

    name: str
    arguments: tuple[Size, ...] = ()

    def __str__(self) -> str:
        return _shown(self)


@cache
def _shown(atom: Atom) -> str:
    """The text of an atom; kept, since atoms nest and sums are sorted by it."""
    if not atom.arguments:
        return atom.name
    if atom.name == "floor":
        above, below = fraction(atom.arguments[0])
        return f"{wrapped(above)} // {wrapped(below)}"
    return f"{atom.name}({', '.join(map(str, atom.arguments))})"


@dataclass(frozen=True, slots=True)
class Poly:
    """A sum of `coefficient * monomial`, at least one of which is not constant; terms are sorted, so equal sizes are
    equal objects.
    """

    terms: tuple[tuple[Monomial, Rational], ...]

    def __add__(self, other: Size) -> Size:
        if other == 0:
            return self
        return sum_of([*terms_of(self), *terms_of(other)])

    def __mul__(self, other: Size) -> Size:
        if not isinstance(other, Poly):  # the order of the terms stays
            return Poly(tuple((monomial, _plain(x * other)) for monomial, x in self.terms)) if other else 0
        return sum_of((_times(a, b), x * y) for a, x in terms_of(self) for b, y in terms_of(other))

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + other * -1

    def __rsub__(self, other: Size) -> Size:
        return self * -1 + other

    def __truediv__(self, other: Size) -> Size:
        return divide(self, other)

    def __rtruediv__(self, other: Size) -> Size:
        return divide(other, self)

    def __floordiv__(self, other: Size) -> Size:
        return floor(divide(self, other))

    def __rfloordiv__(self, other: Size) -> Size:
        return floor(divide(other, self))

    def __mod__(self, other: Size) -> Size:
        return self - other * floor(divide(self, other))

    def __rmod__(self, other: Size) -> Size:
        return other - self * floor(divide(other, self))

    def __pow__(self, power: int) -> Size:
        return reduce(mul, [self] * power, 1) if power else 1

    __radd__, __rmul__ = __add__, __mul__

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def text(self, number: Callable[[Rational], str] = str) -> str:
        """The sum of products, with its factors as `number` writes them."""
        scale = denominator(self)
        if scale != 1:
            return f"{wrapped(self * scale)} // {scale}"
        # positive terms first: `h - 1`, never `-1 + h`
        ordered = sorted(self.terms, key=lambda term: (term[1] < 0, not term[0]))
        return "".join(
            _signed(monomial, coefficient, i == 0, number) for i, (monomial, coefficient) in enumerate(ordered)
        )

    @property
    def symbols(self) -> frozenset[str]:
        """The free sizes that it is made of."""
        return frozenset(_symbols(self))


def _signed(monomial: Monomial, coefficient: Rational, first: bool, number: Callable[[Rational], str]) -> str:
    sign = ("-" if first else " - ") if coefficient < 0 else ("" if first else " + ")
    factors = [text for atom, power in monomial for text in [_factor(atom, power)]]
    if abs(coefficient) != 1 or not factors:
        factors.insert(0, number(-coefficient if coefficient < 0 else coefficient))
    return sign + " * ".join(factors)


def _factor(atom: Atom, power: int) -> str:
    text = f"({atom})" if atom.name == "floor" else str(atom)
    return text if power == 1 else f"{text} ** {power}"


def wrapped(size: Size) -> str:
    text = str(size)
    return text if text.isidentifier() or text.isdigit() else f"({text})"


def _symbols(size: Size) -> Iterator[str]:
    for monomial, _ in terms_of(size):
        for atom, _power in monomial:
            if atom.arguments:
                yield from (name for argument in atom.arguments for name in _symbols(argument))
            else:
                yield atom.name


def symbols(size: Size) -> frozenset[str]:
    """The free sizes that `size` is made of; none where it is a number."""
    return size.symbols if isinstance(size, Poly) else frozenset()


def symbol(name: str) -> Poly:
    """The free size `name`."""
    return _atom(Atom(name))


def _opaque(name: str, *arguments: Size) -> Poly:
    return _atom(Atom(name, arguments))


def _atom(atom: Atom) -> Poly:
    return Poly(((((atom, 1),), 1),))


def terms_of(size: Size) -> tuple[tuple[Monomial, Rational], ...]:
    return size.terms if isinstance(size, Poly) else (((), size),)


def _times(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=lambda item: str(item[0])))


def _plain(value: Rational) -> Rational:
    return int(value) if value.denominator == 1 else value


def sum_of(terms: Iterable[tuple[Monomial, Rational]]) -> Size:
    total: dict[Monomial, Rational] = {}
    for monomial, coefficient in terms:
        total[monomial] = total.get(monomial, 0) + coefficient
    kept = [(monomial, _plain(coefficient)) for monomial, coefficient in total.items() if coefficient]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    # highest power first, then by name
    return Poly(tuple(sorted(kept, key=_rank) if len(kept) > 1 else kept))


def _rank(term: tuple[Monomial, Rational]) -> tuple[int, list[tuple[str, int]]]:
    return -sum(power for _, power in term[0]), [(str(atom), -power) for atom, power in term[0]]


def product(sizes: Iterable[Size]) -> Size:
    """The product of sizes; 1 of none."""
    factors = list(sizes)
    known = prod(size for size in factors if not isinstance(size, Poly))
    return reduce(mul, (size for size in factors if isinstance(size, Poly)), known)


def total(sizes: Iterable[Size]) -> Size:
    """The sum of sizes; 0 of none."""
    known: Rational = 0
    others: list[tuple[Monomial, Rational]] = []
    for size in sizes:
        if isinstance(size, Poly):
            others += size.terms
        else:
            known += size
    return sum_of([((), known), *others]) if others else _plain(known)


def denominator(size: Size) -> int:
    """The least positive integer that makes every coefficient whole."""
    return lcm(*(Fraction(coefficient).denominator for _, coefficient in terms_of(size)))


def fraction(size: Size) -> tuple[Size, Size]:
    """Numerator and denominator, without quotients in either; the denominator is a number where no size is divided
    by.
    """
    scale = denominator(size)
    above: Size = 0
    below: Size = 1
    for monomial, coefficient in terms_of(size * scale):
        top: Size = coefficient
        bottom: Size = 1
        for atom, power in monomial:
            over, under = _fraction(atom)
            top, bottom = top * over**power, bottom * under**power
        above, below = (above + top, below) if bottom == below else (above * bottom + top * below, below * bottom)
    return above, below * scale


def _fraction(atom: Atom) -> tuple[Size, Size]:
    if atom.name != "quotient":
        return _atom(atom), 1
    (a, b), (c, d) = map(fraction, atom.arguments)
    return a * d, b * c


def divide(a: Size, b: Size) -> Size:
    """The exact quotient."""
    if not isinstance(b, Poly):
        if b == 0:
            raise ZeroDivisionError("division by zero")
        if not isinstance(a, Poly):
            return a // b if a % b == 0 else Fraction(a) / b
        return sum_of((monomial, Fraction(coefficient) / b) for monomial, coefficient in terms_of(a))
    if a == b:
        return 1
    if len(b.terms) == 1:
        ((monomial, coefficient),) = b.terms
        parts = [(_without(term, monomial), Fraction(value) / coefficient) for term, value in terms_of(a)]
        if all(part is not None for part, _ in parts):
            return sum_of((part, value) for part, value in parts if part is not None)
    return _opaque("quotient", a, b)


def _without(term: Monomial, divisor: Monomial) -> Monomial | None:
    powers = dict(term)
    for atom, power in divisor:
        if powers.get(atom, 0) < power:
            return None
        powers[atom] -= power
    return tuple((atom, power) for atom, power in powers.items() if power)


def floor(size: Size) -> Size:
    """The largest integer not above `size`. `floor((p + k d) / d) = floor(p / d) + k` and nested floors merge, so equal
    sizes look equal.
    """
    if not isinstance(size, Poly):
        return size.__floor__()
    whole: list[tuple[Monomial, Rational]] = []
    rest: list[tuple[Monomial, Rational]] = []
    for monomial, coefficient in size.terms:
        if not monomial:
            whole.append((monomial, coefficient.__floor__()))
            rest.append((monomial, coefficient - coefficient.__floor__()))
        else:
            exact = Fraction(coefficient).denominator == 1 and not _divided(monomial)
            (whole if exact else rest).append((monomial, coefficient))
    remainder = sum_of(rest)
    if not isinstance(remainder, Poly):
        return sum_of(whole)
    above, below = fraction(remainder)
    if isinstance(below, Poly):
        return sum_of([*whole, *terms_of(_opaque("floor", _opaque("quotient", above, below)))])
    return sum_of([*whole, *terms_of(_merge_floor(remainder))])


def _divided(monomial: Monomial) -> bool:
    """Whether a size divides in it, so that it may not be whole."""
    return any(atom.name == "quotient" for atom, _ in monomial)


def _merge_floor(size: Poly) -> Size:
    """`floor((floor(p / a) + k) / b) = floor((p + k a) / (a b))`, k whole."""
    scale = denominator(size)
    terms = dict(terms_of(size * scale))
    inner = [m for m in terms if m]
    if len(inner) == 1 and len(inner[0]) == 1 and terms[inner[0]] == 1:
        ((atom, power),) = inner[0]
        if atom.name == "floor" and power == 1:
            below = denominator(atom.arguments[0])
            return floor((atom.arguments[0] * below + terms.get((), 0) * below) / Fraction(below * scale))
    return _opaque("floor", size)


def ceil(size: Size) -> Size:
    """The least integer not below `size`."""
    if not isinstance(size, Poly):
        return size.__ceil__()
    _, scale = fraction(size)
    return floor(size * -1) * -1 if isinstance(scale, Poly) else floor(size + Fraction(scale - 1, int(scale)))


def maximum(a: Size, b: Size) -> Size:
    return _extreme("max", max, a, b)


def minimum(a: Size, b: Size) -> Size:
    return _extreme("min", min, a, b)


def _extreme(name: str, pick: Callable[[Rational, Rational], Rational], a: Size, b: Size) -> Size:
    if isinstance(a, Poly) or isinstance(b, Poly):
        if (sign := compare(a, b)) is not None:
            return a if (sign >= 0) == (name == "max") else b
        scale = lcm(denominator(a), denominator(b))  # an opaque size is whole where the sizes in it are
        return divide(_opaque(name, a * scale, b * scale), scale)
    return pick(a, b)


def extreme(size: Poly) -> tuple[Size, ...] | None:
    """The sizes whose maximum a size is; None for another."""
    ((monomial, coefficient), *rest) = size.terms
    if rest or coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1 or monomial[0][0].name != "max":
        return None
    return monomial[0][0].arguments


@cache
def lower_bound(size: Size) -> Rational | None:
    """A number that `size` is never below, given that free sizes are at least 1; None where none is known."""
    total: Rational = 0
    for monomial, coefficient in terms_of(size):
        bound = _product_bound(monomial)
        if bound is None or (monomial and coefficient < 0):
            return None
        total += coefficient * bound
    return total


def _product_bound(monomial: Monomial) -> Rational | None:
    """Bounds multiply where none is negative."""
    bounds = [(_atom_bound(atom), power) for atom, power in monomial]
    if len(bounds) == 1 and bounds[0][1] == 1:
        return bounds[0][0]
    known = [bound**power for bound, power in bounds if bound is not None and bound >= 0]
    return prod(known) if len(known) == len(bounds) else None


def _atom_bound(atom: Atom) -> Rational | None:
    if not atom.arguments:
        return 1
    bounds = [lower_bound(argument) for argument in atom.arguments]
    known = [bound for bound in bounds if bound is not None]
    if atom.name == "max" and known:
        return max(known)
    if len(known) < len(bounds):
        return None
    if atom.name == "quotient":
        return 0 if known[0] >= 0 and known[1] >= 0 else None
    return min(known).__floor__() if atom.name == "floor" else min(known)


def compare(a: Size, b: Size) -> int | None:
    """The sign of `a - b` where it is the same for all free sizes; else None. Where it may be 0, 1 is never said."""
    gap = a - b
    if not isinstance(gap, Poly):
        return (gap > 0) - (gap < 0)
    if (low := lower_bound(gap)) is not None and low > 0:
        return 1
    if (low := lower_bound(-gap)) is not None and low > 0:
        return -1
    return None


def substitute(size: Size, values: Mapping[str, Size]) -> Size:
    """`size` with free sizes replaced."""
    if not isinstance(size, Poly):
        return size
    total: Size = 0
    for monomial, coefficient in size.terms:
        part: Size = coefficient
        for atom, power in monomial:
            part = part * replace_atom(atom, values) ** power
        total = total + part
    return total


FUNCTIONS: dict[str, Callable[..., Size]] = {"floor": floor, "max": maximum, "min": minimum, "quotient": divide}


def replace_atom(atom: Atom, values: Mapping[str, Size]) -> Size:
    if not atom.arguments:
        return values[atom.name] if atom.name in values else symbol(atom.name)
    arguments = [substitute(argument, values) for argument in atom.arguments]
    return FUNCTIONS[atom.name](*arguments)
