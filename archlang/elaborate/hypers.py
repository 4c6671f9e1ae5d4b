"""Kinds of hyper-parameters: what an argument may be."""

from fractions import Fraction
from typing import Any

from archlang import syntax
from archlang.diagnostics import error, suggest
from archlang.elaborate.values import AxisName, Layer, is_number, kind_of, show
from archlang.ir import Value
from archlang.primitive import Construct
from archlang.primitives.domain import Full
from archlang.primitives.init import Init
from archlang.sizes import Poly, denominator
from archlang.source import Span

KINDS = (
    "int",
    "float",
    "bool",
    "str",
    "layer",
    "axis",
    "domain",
    "order",
    "position",
    "score",
    "init",
    "dtype",
    "list",
)


def check_kind(value: Any, kind: syntax.Kind | None, name: str, span: Span, note: str = "") -> Any:
    """The argument as its kind wants it; raises A303. `note` says what numbers made it."""
    if kind is None:
        return value
    if kind.name not in KINDS:
        raise error(
            "A315",
            f"there is no kind `{kind.name}`",
            kind.span,
            help=suggest(kind.name, KINDS) or f"kinds are {', '.join(KINDS)}",
        )
    if value is None and kind.optional:
        return None
    if kind.name == "list":
        if not isinstance(value, tuple):
            raise error("A303", f"`{name}` is a list, and this is a {kind_of(value)}: {show(value)}", span)
        return tuple(check_kind(item, kind.item, f"{name}[{i}]", span) for i, item in enumerate(value))
    if kind.name == "int" and is_number(value) and not _fits(value, "int"):
        raise error("A207", f"`{span.text}` is {show(value)}{note}, and `{name}` must be a whole number", span)
    if not _fits(value, kind.name):
        said = f"a {kind_of(value)}{'' if value is None else f': {show(value)}'}"
        raise error("A303", f"`{name}` is of kind {kind.name}, and this is {said}", span)
    return value


def _fits(value: Any, kind: str) -> bool:
    if kind == "int":
        if isinstance(value, Poly):
            return denominator(value) == 1
        return isinstance(value, int | Fraction) and not isinstance(value, bool) and value.denominator == 1
    if kind == "float":
        return is_number(value)
    if kind in ("bool", "str", "axis", "layer"):
        return isinstance(value, {"bool": bool, "str": str, "axis": AxisName, "layer": Layer}[kind])
    if kind == "dtype":
        return isinstance(value, str)
    if kind == "position":
        return isinstance(value, Layer | Value)
    if kind == "init":
        return isinstance(value, Init) or is_number(value)
    if kind == "order" and isinstance(value, Full):  # both directions
        return True
    return isinstance(value, Construct) and value.kind == kind
