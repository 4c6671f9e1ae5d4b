"""Anti-unification: code whose numbers are marked, so that instances that differ only in numbers become one class.

A class is drafted once an instance, with a mark in the place of each number. Drafts with the same marked code are one
class: a mark that has one value in all of them is a literal, one that differs an argument of `__init__`, or a multiple.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

OPEN, CLOSE = "\ue000", "\ue001"
RUN, TIMES, RUN_END = (
    "\ue004",
    "\ue005",
    "\ue006",
)  # `RUN code with columns TIMES count RUN_END`: items of a list that differ in numbers
IF, THEN, END = (
    "\ue007",
    "\ue008",
    "\ue009",
)  # `IF mark before THEN inner THEN after END`: just `inner` where the mark is 0 in all instances
MARK = re.compile(f"{OPEN}(\\d+){CLOSE}")


class Column(tuple[Any, ...]):
    """The values of one mark in the items of a run."""


def plain(value: Any) -> Any:
    """A compile-time value as Python has it: whole fractions are ints, others floats; lists are tuples."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return tuple(plain(item) for item in value) if isinstance(value, list | tuple) else value


def alike(values: list[Any]) -> list[Any]:
    """The values as floats where one of them is a float, also in tuples."""

    def has_float(value: Any) -> bool:
        return any(map(has_float, value)) if isinstance(value, tuple) else isinstance(value, float)

    def floated(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(floated, value))
        return float(value) if type(value) is int else value

    return list(map(floated, values)) if any(map(has_float, values)) else values


def literal(value: Any) -> str:
    """The Python text of a constant."""
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return f'float("{value}")'
        return re.sub(r"e([+-])0*(\d)", lambda m: f"e{m[1].strip('+')}{m[2]}", repr(value))
    return repr(value)


def marks(lines: Iterable[str]) -> list[int]:
    """The marks in some lines, in order of appearance."""
    return list(dict.fromkeys(int(mark) for line in lines for mark in MARK.findall(line)))


def substitute(text: str, spell: Callable[[int], str]) -> str:
    """The text with each mark replaced; in parentheses where an operator beside it could split what replaces it."""

    def replacement(match: re.Match[str]) -> str:
        code = spell(int(match[1]))
        before, after = text[: match.start()].rstrip(" "), text[match.end() :]
        lone = before[-1:] in ("(", "[", ",", "=", "{", "") and after[:1] in (")", "]", ",", ":", "}", "")
        compound = " " in code and not code.startswith(("(", "["))
        if (compound and not lone) or (code.startswith("-") and after.startswith((" **", ".", "["))):
            return f"({code})"
        return code

    return MARK.sub(replacement, text)


def annotation(values: Sequence[Any]) -> str:
    """The type of an argument that takes these values."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float}:
        return "float" if float in kinds else "int"
    if kinds == {tuple}:
        items = [item for value in values for item in value]
        return f"tuple[{annotation(items)}, ...]" if items else "tuple"
    return kinds.pop().__name__ if len(kinds) == 1 else "object"
