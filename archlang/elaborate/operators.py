"""Operators and functions on compile-time values. Numbers stay exact; tensors become nodes of the graph."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from archlang import sizes
from archlang.diagnostics import ArchError, Label, error
from archlang.elaborate.limits import MAX_BITS, check_length, check_number
from archlang.elaborate.values import Conditions, Number, bounded, is_number, kind_of, show
from archlang.facts import Condition, decide, equation
from archlang.sizes import Poly
from archlang.source import Span

MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def plain(value: Any) -> Any:
    """A whole fraction as an int."""
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else value


def arithmetic(op: str, a: Number, b: Number, span: Span) -> Number:
    """`a op b` on numbers, exact where both are exact."""
    if {float, Poly} <= {type(a), type(b)}:
        raise error("A307", f"`{op}` does not work on a free size and {show(b if isinstance(a, Poly) else a)}", span)
    try:
        value: Number = plain(_ARITHMETIC[op](a, b))
    except ZeroDivisionError:
        raise error("A306", f"division by zero: `{span.text}`", span) from None
    except (OverflowError, ValueError):
        raise error("A815", "the number is too large", span) from None
    except TypeError:
        raise error("A307", f"`{op}` does not work on a free size and {show(b)}", span) from None
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        raise error("A306", f"`{span.text}` is not a finite number", span)
    check_number(value, span)
    return value


def _divide(a: Any, b: Any) -> Any:
    return Fraction(a) / b if isinstance(a, int) and not isinstance(b, float | Poly) else a / b


def _power(a: Any, b: Any) -> Any:
    if isinstance(a, Poly) and not (isinstance(b, int) and 0 <= b <= 16):
        raise TypeError
    if isinstance(b, int) and not isinstance(a, float | Poly):
        if abs(b) * max(Fraction(a).numerator.bit_length(), Fraction(a).denominator.bit_length()) > MAX_BITS:
            raise OverflowError
        return Fraction(a) ** b
    return float(a) ** float(b)


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": _power,
}


def compare(op: str, a: Number, b: Number, span: Span) -> bool | Conditions:
    """A comparison of numbers: decided, or the condition on free sizes that it is."""
    if op in (">", ">="):
        return compare(MIRRORED[op], b, a, span)
    if not isinstance(a, Poly) and not isinstance(b, Poly):
        return bool({"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b}[op])
    if isinstance(a, float) or isinstance(b, float):
        raise error("A307", f"a free size and {show(a if isinstance(a, float) else b)} do not compare", span)
    condition = equation(a, b) if op == "==" else Condition(op, a, b)
    known = decide(condition)
    return Conditions((condition,)) if known is None else known


def both(a: Any, b: Any, span: Span) -> Any:
    """`a and b` where at least one depends on free sizes."""
    if a is False or b is False:
        return False
    parts = [part for part in (a, b) if part is not True]
    if not all(isinstance(part, Conditions) for part in parts):
        raise error("A303", f"`and` takes truth values, not {kind_of(parts[-1])}", span)
    return Conditions(tuple(condition for part in parts for condition in part.items))


# ---- functions of numbers and lists
def builtin(name: str, arguments: list[Any], span: Span) -> Any:
    """A compile-time function; raises A301 for a wrong count of arguments and A303 for a wrong kind."""
    try:
        value = plain(BUILTINS[name](*arguments))
        return bounded(value, span) if isinstance(value, tuple) else value
    except ArchError as failure:
        raise ArchError(*(replace(d, labels=(Label(span),)) for d in failure.diagnostics)) from None
    except ZeroDivisionError:
        raise error("A306", f"division by zero: `{span.text}`", span) from None
    except OverflowError:
        raise error("A815", "the number is too large", span) from None
    except (TypeError, ValueError, AttributeError):
        given = ", ".join(show(argument) for argument in arguments)
        raise error("A303", f"`{name}` does not work on ({given})", span, help=HELP.get(name)) from None


def _whole(value: Any) -> int:
    value = plain(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _range(*bounds: Any) -> tuple[int, ...]:
    steps = range(*map(_whole, bounds))
    check_length(len(steps), _NOWHERE)
    return tuple(steps)


def _linspace(start: Any, stop: Any, count: Any) -> tuple[Any, ...]:
    count = _whole(count)
    check_length(count, _NOWHERE)
    if count == 1:
        return (start,)
    return tuple(plain(start + _divide((stop - start) * i, count - 1)) for i in range(count))


def _items(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise TypeError
    return value


def _total(items: Any) -> Any:
    return sum(_numbers(items), start=0)


def _numbers(items: Any) -> tuple[Any, ...]:
    if not all(is_number(item) for item in _items(items)):
        raise TypeError
    return tuple(items)


def _extreme(pick: Callable[[Any, Any], Any], *arguments: Any) -> Any:
    items = _numbers(arguments[0] if len(arguments) == 1 else arguments)
    best = items[0] if items else _fail()
    for item in items[1:]:
        best = pick(best, item)
    return best


def _fail() -> Any:
    raise TypeError


def _sqrt(value: Any) -> Any:
    """Exact where the root is rational."""
    if isinstance(value, int | Fraction) and not isinstance(value, bool) and value >= 0:
        above, below = math.isqrt(Fraction(value).numerator), math.isqrt(Fraction(value).denominator)
        if Fraction(above, below) ** 2 == value:
            return Fraction(above, below)
    return math.sqrt(value)


def _log2(value: Any) -> Any:
    """Exact for powers of two."""
    exact = Fraction(value) if isinstance(value, int | Fraction) and not isinstance(value, bool) else Fraction(0)
    powers = [exact.numerator, exact.denominator]
    if exact > 0 and all(power & (power - 1) == 0 for power in powers):
        return powers[0].bit_length() - powers[1].bit_length()
    return _math(math.log2)(value)


def _round_up(value: Any, multiple: Any) -> Any:
    return sizes.ceil(_exact(value) / Fraction(_whole(multiple))) * multiple


def _round(value: Any) -> Any:
    return sizes.floor(_exact(value) + Fraction(1, 2))


def _exact(value: Any) -> Any:
    return Fraction(value) if isinstance(value, float | int) and not isinstance(value, bool) else value


def _zip(*lists: Any) -> tuple[Any, ...]:
    if len({len(_items(items)) for items in lists}) > 1:
        raise error("A308", f"`zip` takes lists of one length, not {', '.join(str(len(items)) for items in lists)}")
    return tuple(zip(*lists, strict=True))


def _math(function: Callable[[float], float]) -> Callable[[Any], float]:
    return lambda value: function(float(value)) if is_number(value) and not isinstance(value, Poly) else _fail()


_NOWHERE: Any = None
HELP = {
    "range": "it takes whole numbers: `range(4)`",
    "linspace": "it takes a start, a stop and a count: `linspace(0, 0.2, 12)`",
}
BUILTINS: dict[str, Callable[..., Any]] = {
    "range": _range,
    "zip": _zip,
    "enumerate": lambda items: tuple(enumerate(_items(items))),
    "reverse": lambda items: _items(items)[::-1],
    "len": lambda items: len(_items(items)),
    "linspace": _linspace,
    "sum": _total,
    "product": lambda items: sizes.product(_numbers(items)),
    "min": lambda *items: _extreme(sizes.minimum, *items),
    "max": lambda *items: _extreme(sizes.maximum, *items),
    "minimum": lambda a, b: _extreme(sizes.minimum, a, b),
    "maximum": lambda a, b: _extreme(sizes.maximum, a, b),
    "ceil": lambda value: sizes.ceil(_exact(value)),
    "floor": lambda value: sizes.floor(_exact(value)),
    "round": _round,
    "round_up": _round_up,
    "abs": lambda value: abs(value) if is_number(value) else _fail(),
    "sqrt": _sqrt,
    "exp": _math(math.exp),
    "log": _math(math.log),
    "log2": _log2,
    "sin": _math(math.sin),
    "cos": _math(math.cos),
    "tanh": _math(math.tanh),
}
CONSTANTS = {"pi": math.pi, "inf": math.inf}
