"""Arithmetic on numbers of the text, where every floating-point type computes it exactly: small whole numbers, halves,
quarters. What is rounded somewhere is left to run time, so that no precision sees another result.
"""

import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import product
from math import copysign
from typing import Any, TypeAlias

from archlang.ir import Value
from archlang.primitive import axes_of
from archlang.primitives.broadcast import known
from archlang.rewrite import Match, No, Result, Rule, rule

Table: TypeAlias = Mapping[tuple[int, ...], float]  # numbers by their places along axes
_DIGITS, _LEAST, _MOST = 2**8, Fraction(1, 2**14), 2**15  # bfloat16 and float16 hold such numbers without rounding
_MEANING: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "maximum": max,
    "minimum": min,
}
_ROUNDED = No("the result is rounded, in one precision not as in another")


@rule("f(values(), ...)", "exact", f=" ".join(_MEANING))
def numbers_of_numbers(m: Match) -> Result:
    """values(a) + values(b) = values(a + b)."""
    return _folded(m, m.f)


@rule("f(..., b=values())", "exact", f=" ".join(_MEANING))
def number_of_numbers(m: Match) -> Result:
    """2 - values(a) = values(2 - a)."""
    return _folded(m, m.f)


@rule("sum(values())", "exact")
def sum_of_numbers(m: Match) -> Result:
    """The sum of numbers of the text is a number of the text."""
    type_, whole = m.root.types[0], m.result(m.values).type
    if not type_.axes:
        return None  # a scalar is no list
    at = [whole.names.index(name) for name in type_.names]
    sums: dict[tuple[int, ...], float] = {}
    for place, number in _table(m.values.op).items():
        here = tuple(place[i] for i in at)
        sums[here] = sums.get(here, 0.0) + number
        if not _is_exact(sums[here], Fraction(sums[here])):
            return _ROUNDED
    return _values(m, sums) if axes_of(m.sum.op.on, whole) else None


@rule("outer(inner(a))", "exact", outer="add sub", inner="add sub")
def whole_numbers_in_a_row(m: Match) -> Result:
    """(a + 4) - 1 = a + 3, where a holds whole numbers."""
    first, second = _moved(m.inner.op), _moved(m.outer.op)
    if first is None or second is None or m.a.type.dtype != "int":
        return None
    whole = first + second
    return m.call("add" if whole > 0 else "sub", m.a, abs(whole)) if whole else m.a


def _moved(op: Any) -> int | None:
    """By how much a sum with a whole number moves its other side."""
    number = op.right
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    return number if op.name == "add" else -number


def _folded(m: Match, node: Any) -> Result:
    """The numbers that an operator makes of tables and numbers."""
    sides = [_side(m, node, port) for port in ("a", "b")]
    if None in sides:
        return None
    (a, a_at), (b, b_at) = sides
    meaning, made = _MEANING[node.op.name], dict[tuple[int, ...], float]()
    for place in product(*(range(known(axis.size)) for axis in m.root.types[0])):
        x, y = a[tuple(place[i] for i in a_at)], b[tuple(place[i] for i in b_at)]
        if (node.op.name == "div" and y == 0) or _is_negative_zero(x) or _is_negative_zero(y):
            return No("it divides by 0, or takes -0.0")
        made[place] = meaning(x, y)
        if not all(_is_exact(number, Fraction(number)) for number in (x, y)) or not _is_exact(
            made[place], meaning(Fraction(x), Fraction(y))
        ):
            return _ROUNDED
    return _values(m, made)


def _side(m: Match, node: Any, port: str) -> Any:
    """A table, and where its axes are in the result; None for a tensor that is computed."""
    value: Value | None = m.operand(node, port)
    names = m.root.types[0].names
    if value is None:
        number = getattr(node.op, node.op.numbers[port])
        return ({(): float(number)}, []) if isinstance(number, int | float) else None
    made = m.graph.producer(value)
    if made.op.name != "values":
        return None
    return _table(made.op), [names.index(name) for name in value.type.names]


def _table(op: Any) -> Table:
    rows: list[tuple[tuple[int, ...], Any]] = [((), op.numbers)]
    for _ in op.on:
        rows = [((*place, i), item) for place, numbers in rows for i, item in enumerate(numbers)]
    return dict(rows)


def _values(m: Match, table: Table) -> Result:
    """The table as lists of lists, over the axes of the result."""
    type_ = m.root.types[0]
    if m.root.types[0].dtype != "float":
        return None

    def nested(place: tuple[int, ...]) -> Any:
        if len(place) == len(type_.axes):
            return table[place]
        return [nested((*place, i)) for i in range(known(type_.axes[len(place)].size))]

    return m.call("values", numbers=nested(()), on=type_.names)


def _is_exact(number: float, meant: Fraction) -> bool:
    """Whether a number is the one that is meant, and no precision rounds it."""
    digits = meant.numerator.bit_length() and abs(meant.numerator) // (meant.numerator & -meant.numerator)
    power_of_two = meant.denominator & (meant.denominator - 1) == 0
    inside = meant == 0 or _LEAST <= abs(meant) <= _MOST
    return Fraction(number) == meant and digits <= _DIGITS and power_of_two and inside


def _is_negative_zero(number: float) -> bool:
    return number == 0 and copysign(1, number) < 0


RULES: tuple[Rule, ...] = (numbers_of_numbers, number_of_numbers, sum_of_numbers, whole_numbers_in_a_row)
