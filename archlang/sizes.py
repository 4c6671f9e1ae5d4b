"""Exact sizes: integers, rationals and polynomials over symbolic sizes.

A symbolic size is a sum of monomials with rational coefficients. An atom of a monomial is the name of a free size (`b`,
`h`) or an opaque `floor`, `max` or `min`. Constants fold to plain `int` or `Fraction`, so concrete nets never meet a
`Poly`. Every free size is at least 1.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, reduce
from math import gcd, lcm, prod
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
        return f"{_wrap(above)} // {_wrap(below)}"
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
        return _sum([*_terms(self), *_terms(other)])

    def __mul__(self, other: Size) -> Size:
        return _sum((_times(a, b), x * y) for a, x in _terms(self) for b, y in _terms(other))

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
        scale = denominator(self)
        if scale != 1:
            return f"{_wrap(self * scale)} // {scale}"
        # positive terms first: `h - 1`, never `-1 + h`
        ordered = sorted(self.terms, key=lambda term: (term[1] < 0, not term[0]))
        return "".join(
            _signed(monomial, coefficient, first=i == 0) for i, (monomial, coefficient) in enumerate(ordered)
        )

    __repr__ = __str__

    @property
    def symbols(self) -> frozenset[str]:
        """The free sizes that it is made of."""
        return frozenset(_symbols(self))


def _signed(monomial: Monomial, coefficient: Rational, first: bool) -> str:
    sign = ("-" if first else " - ") if coefficient < 0 else ("" if first else " + ")
    factors = [text for atom, power in monomial for text in [_factor(atom, power)]]
    if abs(coefficient) != 1 or not factors:
        factors.insert(0, str(abs(coefficient)))
    return sign + " * ".join(factors)


def _factor(atom: Atom, power: int) -> str:
    text = f"({atom})" if atom.name == "floor" else str(atom)
    return text if power == 1 else f"{text} ** {power}"


def _wrap(size: Size) -> str:
    text = str(size)
    return text if text.isidentifier() or text.isdigit() else f"({text})"


def _symbols(size: Size) -> Iterator[str]:
    for monomial, _ in _terms(size):
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


def _terms(size: Size) -> tuple[tuple[Monomial, Rational], ...]:
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


def _sum(terms: Iterable[tuple[Monomial, Rational]]) -> Size:
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
    return _sum(term for size in sizes for term in _terms(size))


def denominator(size: Size) -> int:
    """The least positive integer that makes every coefficient whole."""
    return lcm(*(Fraction(coefficient).denominator for _, coefficient in _terms(size)))


def fraction(size: Size) -> tuple[Size, Size]:
    """Numerator and denominator, without quotients in either; the denominator is a number where no size is divided
    by.
    """
    scale = denominator(size)
    above: Size = 0
    below: Size = 1
    for monomial, coefficient in _terms(size * scale):
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
        return _sum((monomial, Fraction(coefficient) / b) for monomial, coefficient in _terms(a))
    if a == b:
        return 1
    if len(b.terms) == 1:
        ((monomial, coefficient),) = b.terms
        parts = [(_without(term, monomial), Fraction(value) / coefficient) for term, value in _terms(a)]
        if all(part is not None for part, _ in parts):
            return _sum((part, value) for part, value in parts if part is not None)
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
    remainder = _sum(rest)
    if not isinstance(remainder, Poly):
        return _sum(whole)
    above, below = fraction(remainder)
    if isinstance(below, Poly):
        return _sum([*whole, *_terms(_opaque("floor", _opaque("quotient", above, below)))])
    return _sum([*whole, *_terms(_merge_floor(remainder))])


def _divided(monomial: Monomial) -> bool:
    """Whether a size divides in it, so that it may not be whole."""
    return any(atom.name == "quotient" for atom, _ in monomial)


def _merge_floor(size: Poly) -> Size:
    """`floor((floor(p / a) + k) / b) = floor((p + k a) / (a b))`, k whole."""
    scale = denominator(size)
    terms = dict(_terms(size * scale))
    inner = [m for m in terms if m]
    if len(inner) == 1 and len(inner[0]) == 1 and terms[inner[0]] == 1:
        ((atom, power),) = inner[0]
        if atom.name == "floor" and power == 1:
            below = denominator(atom.arguments[0])
            return floor((atom.arguments[0] * below + terms.get((), 0) * below) / Fraction(below * scale))
    return _opaque("floor", size)


def ceil(size: Size) -> Size:
    """The least integer not below `size`."""
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


@cache
def lower_bound(size: Size) -> Rational | None:
    """A number that `size` is never below, given that free sizes are at least 1; None where none is known."""
    total: Rational = 0
    for monomial, coefficient in _terms(size):
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
    """The sign of `a - b` where it is the same for all free sizes; else None. 1 also where it may be equal is never
    said.
    """
    gap = a - b
    if not isinstance(gap, Poly):
        return (gap > 0) - (gap < 0)
    if (low := lower_bound(gap)) is not None and low > 0:
        return 1
    if (low := lower_bound(gap * -1)) is not None and low > 0:
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
            part = part * _replace(atom, values) ** power
        total = total + part
    return total


def _replace(atom: Atom, values: Mapping[str, Size]) -> Size:
    if not atom.arguments:
        return values.get(atom.name, symbol(atom.name))
    arguments = [substitute(argument, values) for argument in atom.arguments]
    functions: dict[str, Callable[..., Size]] = {"floor": floor, "max": maximum, "min": minimum, "quotient": divide}
    return functions[atom.name](*arguments)


@dataclass(frozen=True, slots=True)
class Condition:
    """`left OP right` over sizes, to hold at run time: `==`, `!=`, `<=`, `<`, or `%` for "right divides left"."""

    op: str
    left: Size
    right: Size

    def __str__(self) -> str:
        if self.op == "%":
            return f"{_wrap(self.left)} % {_wrap(self.right)} == 0"
        return f"{self.left} {self.op} {self.right}"

    __repr__ = __str__

    def substitute(self, values: Mapping[str, Size]) -> "Condition":
        return Condition(self.op, substitute(self.left, values), substitute(self.right, values))


def equation(left: Size, right: Size) -> Condition:
    """`left == right`. `c * floor(x / c + r) == x` with 0 <= r < 1 says that `x / c` is whole, and is written so."""
    for a, b in ((left, right), (right, left)):
        for monomial, coefficient in _terms(a - b):
            if len(monomial) == 1 and monomial[0][0].name == "floor" and monomial[0][1] == 1:
                inside = monomial[0][0].arguments[0]
                quotient = divide(_product(monomial, coefficient) - (a - b), coefficient)
                slack = inside - quotient
                if not isinstance(slack, Poly) and 0 <= slack < 1:
                    scale = denominator(quotient)
                    return Condition("%", quotient * scale, scale)
    return _no_rest(left - right) or Condition("==", left, right)


def _no_rest(gap: Size) -> Condition | None:
    """`(x + c - 1) // c == x // c` says that `c` divides `x`."""
    floors = {factor: m[0][0].arguments[0] for m, factor in _terms(gap) if len(m) == 1 and m[0][0].name == "floor"}
    if len(_terms(gap)) == 2 and floors.keys() == {1, -1}:
        for low, high in ((floors[1], floors[-1]), (floors[-1], floors[1])):
            above, below = fraction(low)
            if not isinstance(below, Poly) and high - low == 1 - Fraction(1, below):
                return Condition("%", above, below)
    return None


def _product(monomial: Monomial, coefficient: Rational) -> Size:
    return _sum([(monomial, coefficient)])


def inequality(op: str, left: Size, right: Size) -> Condition:
    """`left <= right` or `left < right`; a bound on one monomial is written as that: `3 <= h // 2 + 2` is `2 <= h`."""
    scale = denominator(right - left)
    gap = (right - left) * scale - (1 if op == "<" else 0)
    constant = dict(_terms(gap)).get((), 0)
    rest = gap - constant
    if not isinstance(rest, Poly) or len(rest.terms) != 1 or fraction(gap)[1] != 1:
        return Condition(op, left, right)
    ((monomial, coefficient),) = rest.terms
    size = _product(monomial, 1)
    if coefficient < 0:
        return Condition("<=", size, floor(Fraction(constant) / -coefficient))
    least = ceil(Fraction(-constant) / coefficient)
    if len(monomial) == 1 and monomial[0][0].name == "floor" and monomial[0][1] == 1:
        above, below = fraction(monomial[0][0].arguments[0])
        if not isinstance(below, Poly):
            return inequality("<=", least * below, above)
    return Condition("<=", least, size)


def decide(condition: Condition) -> bool | None:
    """Whether the condition holds for all free sizes (True), for none (False), or depends on them (None)."""
    if condition.op == "%":
        rest = condition.left % condition.right
        return rest == 0 if not isinstance(rest, Poly) else None
    sign = compare(condition.left, condition.right)
    if sign is None:
        return _weak(condition)
    return {"==": sign == 0, "!=": sign != 0, "<=": sign <= 0, "<": sign < 0}[condition.op]


def _weak(condition: Condition) -> bool | None:
    """`a <= b` also holds where `b - a` is known to be at least 0."""
    low = lower_bound(condition.right - condition.left)
    high = lower_bound(condition.left - condition.right)
    if condition.op == "<=" and low is not None and low >= 0:
        return True
    if condition.op == "<" and high is not None and high >= 0:
        return False
    return None


class Facts:
    """What is known of the free sizes: the conditions that the caller must meet. Sizes are compared under them."""

    def __init__(self) -> None:
        self.conditions: dict[Condition, str] = {}

    def require(self, condition: Condition, message: str = "") -> bool:
        """True where the condition holds or was collected; False where it cannot hold."""
        condition = self._simplified(condition)
        known = decide(condition)
        if known is None and not self._implies(condition):
            self.conditions[condition] = message
        return known is not False

    def settle(self) -> dict[Condition, str]:
        """The conditions without those that follow from the others."""
        found = dict(self.conditions)
        for condition in sorted(found, key=lambda c: (c.op == "%", c.right if isinstance(c.right, int) else 0)) * 2:
            if (message := found.pop(condition, None)) is None:
                continue
            others = Facts()
            others.conditions = found
            if not others.require(condition, message):
                found[condition] = message
        return found

    def _implies(self, condition: Condition) -> bool:
        """Whether a known condition says at least as much."""
        if condition in self.conditions:
            return True
        if condition.op == "%" and isinstance(condition.right, int):
            return self._divides(condition.right, condition.left)
        if condition.op == "<=" and isinstance(condition.left, int):
            known = [
                c.left
                for c in self.conditions
                if c.op == "<=" and c.right == condition.right and isinstance(c.left, int)
            ]
            known += [
                c.right
                for c in self.conditions
                if c.op == "%" and c.left == condition.right and isinstance(c.right, int)
            ]
            return any(bound >= condition.left for bound in known)
        return False

    def equal(self, left: Size, right: Size) -> bool:
        """Whether two sizes are equal, collecting the condition where that depends on free sizes."""
        return left == right or self.require(equation(left, right))

    def divides(self, divisor: Size, size: Size) -> bool:
        """Whether `divisor` divides `size`, collecting the condition where that depends on free sizes."""
        return self.require(Condition("%", size, divisor))

    def simplify(self, size: Size) -> Size:
        """`floor((p + r) / d)` is `p / d` where `d | p` is known and 0 <= r < d; `p` may be a multiple of what is
        known.
        """
        if not isinstance(size, Poly) or not self.conditions:
            return size
        total: Size = 0
        for monomial, coefficient in size.terms:
            part: Size = coefficient
            for atom, power in monomial:
                part = part * self._atom(atom) ** power
            total = total + part
        return total

    def _simplified(self, condition: Condition) -> Condition:
        left, right = self.simplify(condition.left), self.simplify(condition.right)
        if condition.op == "==":
            return equation(left, right)
        if condition.op == "%":
            above, below = fraction(left)
            return Condition("%", above, right * below)
        return Condition("!=", left, right) if condition.op == "!=" else inequality(condition.op, left, right)

    def _atom(self, atom: Atom) -> Size:
        if atom.name != "floor":
            return _replace(atom, {}) if atom.arguments else symbol(atom.name)
        inside = self.simplify(atom.arguments[0])
        if isinstance(fraction(inside)[1], Poly):
            return floor(inside)
        constant = Fraction(dict(_terms(inside)).get((), 0))
        scaled = (inside - constant) * denominator(inside)
        if self._divides(denominator(inside), scaled):
            return (inside - constant) + constant.__floor__()
        return floor(inside)

    def _divides(self, divisor: int, size: Size) -> bool:
        """Whether known divisibilities make every term of `size` a multiple of `divisor`."""
        for monomial, coefficient in _terms(size):
            factor = divisor // gcd(divisor, int(coefficient))
            part = _sum([(monomial, 1)])
            known = [c.right for c in self.conditions if c.op == "%" and c.left == part and isinstance(c.right, int)]
            if factor != 1 and not any(divisor % factor == 0 for divisor in known):
                return False
        return True
