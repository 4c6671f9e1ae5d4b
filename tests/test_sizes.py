"""Sizes are exact: every operation on free sizes means what it means on the numbers that they stand for."""

import math
import operator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archlang.facts import Condition, Facts, decide, equation, inequality
from archlang.memory import evaluate
from archlang.sizes import Poly, ceil, compare, divide, floor, lower_bound, maximum, minimum, substitute, symbol

FREE = ("b", "h", "w")
POINTS = st.fixed_dictionaries({name: st.integers(1, 40) for name in FREE})
NUMBERS = st.integers(-6, 12) | st.fractions(-6, 12, max_denominator=8)


def sizes(depth: int = 2) -> st.SearchStrategy[Any]:
    """Expressions as networks make them: sums, products, quotients by numbers, roundings, extremes."""
    leaf = st.sampled_from([symbol(name) for name in FREE]) | st.integers(-4, 8)
    if depth == 0:
        return leaf
    part = sizes(depth - 1)
    return (
        leaf
        | st.builds(operator.add, part, part)
        | st.builds(operator.sub, part, part)
        | st.builds(operator.mul, part, part)
        | st.builds(divide, part, st.integers(1, 8))
        | st.builds(lambda size, divisor: floor(divide(size, divisor)), part, st.integers(1, 8))
        | st.builds(lambda size, divisor: ceil(divide(size, divisor)), part, st.integers(1, 8))
        | st.builds(maximum, part, part)
        | st.builds(minimum, part, part)
    )


BINARY = {
    "+": (operator.add, operator.add),
    "-": (operator.sub, operator.sub),
    "*": (operator.mul, operator.mul),
    "max": (maximum, max),
    "min": (minimum, min),
}


@pytest.mark.parametrize("name", BINARY)
@given(a=sizes(), b=sizes(), at=POINTS)
def test_operations_commute_with_substitution(name: str, a: Any, b: Any, at: dict[str, int]):
    on_sizes, on_numbers = BINARY[name]
    assert substitute(on_sizes(a, b), at) == on_numbers(substitute(a, at), substitute(b, at))


@given(a=sizes(), number=NUMBERS.filter(bool), at=POINTS)
def test_division_by_a_number(a: Any, number: Any, at: dict[str, int]):
    value = Fraction(substitute(a, at))
    assert substitute(divide(a, number), at) == value / number
    assert substitute(floor(divide(a, number)), at) == math.floor(value / number)
    assert substitute(ceil(divide(a, number)), at) == math.ceil(value / number)


@given(a=sizes(1), b=sizes(1), at=POINTS)
def test_division_by_a_size(a: Any, b: Any, at: dict[str, int]):
    """`//` and `%` of sizes are those of the numbers; `/` is the exact quotient."""
    below = substitute(b, at)
    if below == 0 or b == 0:
        return
    value = Fraction(substitute(a, at)) / below
    assert substitute(divide(a, b), at) == value
    assert substitute(floor(divide(a, b)), at) == math.floor(value)
    if isinstance(a, Poly) or isinstance(b, Poly):
        assert substitute(a % b, at) == substitute(a, at) - below * math.floor(value)


@given(a=sizes(), at=POINTS)
def test_substitution_in_steps(a: Any, at: dict[str, int]):
    first = {"h": at["h"]}
    assert substitute(substitute(a, first), at) == substitute(a, at)


@given(parts=st.lists(sizes(), min_size=1, max_size=3), at=POINTS)
def test_a_number_is_the_same_by_both_ways(parts: Any, at: dict[str, int]):
    known: dict[int, Any] = {}
    assert [evaluate(a, at, known) for a in parts] == [substitute(a, at) for a in parts]


@given(a=sizes(), b=sizes())
def test_equal_sizes_are_equal_objects(a: Any, b: Any):
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) - b == a
    assert hash(a + b) == hash(b + a)


@given(a=sizes(), at=POINTS)
def test_lower_bound(a: Any, at: dict[str, int]):
    bound = lower_bound(a)
    assert bound is None or substitute(a, at) >= bound


@given(a=sizes(), b=sizes(), at=POINTS)
def test_compare(a: Any, b: Any, at: dict[str, int]):
    sign, gap = compare(a, b), substitute(a, at) - substitute(b, at)
    assert sign is None or sign == (gap > 0) - (gap < 0)


@given(a=sizes(1), at=POINTS)
def test_text_reads_as_python(a: Any, at: dict[str, int]):
    """What messages and emitted code show is the size."""
    whole = floor(a)
    assert eval(str(whole), {"max": max, "min": min}, dict(at)) == substitute(whole, at)


# ---- conditions
def holds(condition: Condition, at: dict[str, int]) -> bool:
    left, right = substitute(condition.left, at), substitute(condition.right, at)
    if condition.op == "%":
        return Fraction(left, right).denominator == 1
    return bool({"==": left == right, "!=": left != right, "<=": left <= right, "<": left < right}[condition.op])


ORDERS = st.sampled_from(["<=", "<"])
CONDITIONS = (
    st.builds(Condition, st.sampled_from(["==", "!=", "<=", "<"]), sizes(1).map(floor), sizes(1).map(floor))
    | st.builds(Condition, st.just("%"), sizes(1).map(floor), st.integers(1, 12))
    | st.builds(
        Condition, st.just("%"), st.sampled_from([symbol(name) for name in FREE]), st.sampled_from([2, 4, 8, 3])
    )
)


@given(a=sizes(), b=sizes(), at=POINTS)
def test_equation(a: Any, b: Any, at: dict[str, int]):
    a, b = floor(a), floor(b)
    assert holds(equation(a, b), at) == (substitute(a, at) == substitute(b, at))


@given(size=sizes(1), divisor=st.integers(1, 6), at=POINTS)
def test_equation_of_a_rounded_quotient(size: Any, divisor: int, at: dict[str, int]):
    size = floor(size)
    rounded = divisor * floor(divide(size, divisor))
    found = equation(rounded, size)
    assert holds(found, at) == (substitute(size, at) % divisor == 0)


@given(op=ORDERS, a=sizes(), b=sizes(), at=POINTS)
def test_inequality(op: str, a: Any, b: Any, at: dict[str, int]):
    a, b = floor(a), floor(b)
    assert holds(inequality(op, a, b), at) == holds(Condition(op, a, b), at)


@given(condition=CONDITIONS, at=POINTS)
def test_decide(condition: Condition, at: dict[str, int]):
    known = decide(condition)
    assert known is None or known == holds(condition, at)


def collected(conditions: list[Condition], at: dict[str, int]) -> Facts:
    facts = Facts()
    for condition in conditions:
        possible = facts.require(condition)
        assert possible or not (holds(condition, at) and all(holds(c, at) for c in facts.conditions))
        if not possible:
            break
    return facts


@given(conditions=st.lists(CONDITIONS, max_size=4), at=POINTS)
def test_collected_conditions_keep_the_meaning(conditions: list[Condition], at: dict[str, int]):
    """A point meets what was collected exactly where it meets what was required."""
    facts = Facts()
    possible = [facts.require(condition) for condition in conditions]
    asked = all(holds(condition, at) for condition in conditions)
    if not all(possible):
        assert not asked
    else:
        assert all(holds(condition, at) for condition in facts.conditions) == asked


@given(conditions=st.lists(CONDITIONS, max_size=4), at=POINTS)
def test_settled_conditions_keep_the_meaning(conditions: list[Condition], at: dict[str, int]):
    facts = Facts()
    facts.conditions = dict.fromkeys(conditions, "")
    settled = facts.settle()
    assert all(holds(condition, at) for condition in settled) == all(holds(condition, at) for condition in conditions)


@given(
    divisors=st.fixed_dictionaries({name: st.sampled_from([1, 2, 4, 6, 8]) for name in FREE}),
    size=sizes(),
    steps=POINTS,
)
def test_simplified_sizes_are_equal_where_the_facts_hold(divisors: dict[str, int], size: Any, steps: dict[str, int]):
    facts = Facts()
    for name, divisor in divisors.items():
        assert facts.divides(divisor, symbol(name))
    at = {name: divisors[name] * steps[name] for name in FREE}
    assert substitute(facts.simplify(size), at) == substitute(size, at)


# ---- what networks say
h, w = symbol("h"), symbol("w")


def test_halvings_merge():
    """Five strided stages leave one rounded quotient."""
    size: Any = h
    for _ in range(5):
        size = floor(divide(size + 1, 2))
    assert str(size) == "((h + 31) // 32)"
    facts = Facts()
    assert facts.divides(32, h)
    assert facts.simplify(size) == divide(h, 32)


def test_skips_of_a_unet_settle():
    """What each level asks for follows from what the deepest asks for."""
    facts = Facts()
    for level in range(3):
        small = floor(divide(h, 2 ** (level + 1)))
        assert facts.equal(2 * small, floor(divide(h, 2**level)))
    assert [str(condition) for condition in facts.settle()] == ["h % 8 == 0"]


def test_contradictions_are_refused():
    facts = Facts()
    assert not facts.equal(h, h + 1)
    assert not facts.require(Condition("<", h, 1))
    assert not facts.divides(2, 2 * h + 1)
    assert facts.conditions == {}


@pytest.mark.parametrize(
    ("known", "asked", "possible"),
    [
        ((6, h), (6, h + 2), False),
        ((6, h), (3, h + 2), False),
        ((6, h), (4, h + 2), True),
        ((6, h + 2), (6, h), False),
        ((6, h + 1), (3, h), False),
        ((6, h + 3), (3, h), True),
        ((4, h), (8, 2 * h + 4), False),
        ((4, h), (8, 3 * h + 4), True),
    ],
)
def test_remainders_that_exclude_one_another(known: tuple[int, Any], asked: tuple[int, Any], possible: bool):
    facts = Facts()
    assert facts.divides(*known)
    assert facts.divides(*asked) == possible


def test_bounds_of_kernels():
    """A kernel of 7 without padding needs 7 places; the tightest bound stays."""
    facts = Facts()
    assert facts.require(Condition("<=", 1, h - 6))
    assert facts.require(Condition("<=", 3, floor(divide(h, 2))))
    assert [str(condition) for condition in facts.settle()] == ["7 <= h"]


def test_division_by_zero():
    with pytest.raises(ZeroDivisionError):
        divide(h, 0)
