"""Conditions on free sizes, and what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from archlang.sizes import (
    Atom,
    Monomial,
    Poly,
    Rational,
    Size,
    ceil,
    compare,
    denominator,
    divide,
    floor,
    fraction,
    lower_bound,
    replace_atom,
    substitute,
    sum_of,
    symbol,
    terms_of,
    wrapped,
)


@dataclass(frozen=True, slots=True)
class Condition:
    """`left OP right` over sizes, to hold at run time: `==`, `!=`, `<=`, `<`, or `%` for "right divides left"."""

    op: str
    left: Size
    right: Size

    def __str__(self) -> str:
        if self.op == "%":
            return f"{wrapped(self.left)} % {wrapped(self.right)} == 0"
        return f"{self.left} {self.op} {self.right}"

    __repr__ = __str__

    def substitute(self, values: Mapping[str, Size]) -> "Condition":
        return Condition(self.op, substitute(self.left, values), substitute(self.right, values))


def equation(left: Size, right: Size) -> Condition:
    """`left == right`. `c * floor(x / c + r) == x` with 0 <= r < 1 says that `x / c` is whole, and is written so."""
    for a, b in ((left, right), (right, left)):
        for monomial, coefficient in terms_of(a - b):
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
    floors = {factor: m[0][0].arguments[0] for m, factor in terms_of(gap) if len(m) == 1 and m[0][0].name == "floor"}
    if len(terms_of(gap)) == 2 and floors.keys() == {1, -1}:
        for low, high in ((floors[1], floors[-1]), (floors[-1], floors[1])):
            above, below = fraction(low)
            if not isinstance(below, Poly) and high - low == 1 - Fraction(1, below):
                return Condition("%", above, below)
    return None


def _product(monomial: Monomial, coefficient: Rational) -> Size:
    return sum_of([(monomial, coefficient)])


def inequality(op: str, left: Size, right: Size) -> Condition:
    """`left <= right` or `left < right`; a bound on one monomial is written as that: `3 <= h // 2 + 2` is `2 <= h`."""
    scale = denominator(right - left)
    gap = (right - left) * scale - (1 if op == "<" else 0)
    constant = dict(terms_of(gap)).get((), 0)
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
        known = decide(condition) if self._is_possible(condition) else False
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

    def _is_possible(self, condition: Condition) -> bool:
        """Whether known remainders leave one of 0: `(n + 2) % 6 == 0` cannot hold where `n % 6 == 0` does."""
        if condition.op != "%" or not isinstance(condition.right, int):
            return True
        rest, modulus = 0, condition.right
        for monomial, coefficient in terms_of(condition.left):
            remainder, step = self._remainder(sum_of([(monomial, 1)])) if monomial else (1, 0)
            rest, modulus = rest + int(coefficient) * remainder, gcd(modulus, int(coefficient) * step)
        return rest % modulus == 0

    def _remainder(self, size: Size) -> tuple[int, int]:
        """What is known of a size: its remainder, and after division by what."""
        known = [
            (gap % c.right, c.right)
            for c in self.conditions
            if c.op == "%" and isinstance(c.right, int) and isinstance(gap := size - c.left, int)
        ]
        return max(known, key=lambda pair: pair[1], default=(0, 1))

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
            return replace_atom(atom, {}) if atom.arguments else symbol(atom.name)
        inside = self.simplify(atom.arguments[0])
        if isinstance(fraction(inside)[1], Poly):
            return floor(inside)
        constant = Fraction(dict(terms_of(inside)).get((), 0))
        scaled = (inside - constant) * denominator(inside)
        if self._divides(denominator(inside), scaled):
            return (inside - constant) + constant.__floor__()
        return floor(inside)

    def _divides(self, divisor: int, size: Size) -> bool:
        """Whether known divisibilities make every term of `size` a multiple of `divisor`."""
        for monomial, coefficient in terms_of(size):
            factor = divisor // gcd(divisor, int(coefficient))
            part = sum_of([(monomial, 1)])
            known = [c.right for c in self.conditions if c.op == "%" and c.left == part and isinstance(c.right, int)]
            if factor != 1 and not any(divisor % factor == 0 for divisor in known):
                return False
        return True
