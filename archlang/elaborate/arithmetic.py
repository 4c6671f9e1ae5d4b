"""Operators: on numbers, lists, starts of weights and tensors."""

from typing import Any

from archlang import syntax
from archlang.diagnostics import Label, error
from archlang.elaborate import calls, expressions
from archlang.elaborate.context import Context
from archlang.elaborate.hints import SIZED
from archlang.elaborate.limits import check_length
from archlang.elaborate.operators import arithmetic, both, compare
from archlang.elaborate.values import Conditions, Layer, is_number, kind_of, weigh
from archlang.ir import Value
from archlang.primitives.init import Init
from archlang.primitives.init import combine as combine_init
from archlang.shapes import is_float
from archlang.sizes import Poly
from archlang.source import Span


def unary(cx: Context, expr: syntax.Unary) -> Any:
    value = expressions.evaluate(cx, expr.operand)
    if expr.op == "not":
        if isinstance(value, Value):
            return calls.operation(cx, "logical_not", [("x", value)], {}, expr.span)
        return not expressions.truth(cx, expr.operand)
    if isinstance(value, Value):
        return calls.operation(cx, "neg", [("x", value)], {}, expr.span)
    if isinstance(value, Init):
        return combine_init("*", -1, value)
    if not is_number(value):
        raise error("A303", f"`-` takes a number or a tensor, not a {kind_of(value)}", expr.operand.span)
    return -value


OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floordiv", "%": "mod", "**": "pow"}
COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def binary(cx: Context, expr: syntax.Binary) -> Any:
    if expr.op in ("and", "or"):
        return _logic(cx, expr)
    left, right = expressions.evaluate(cx, expr.left), expressions.evaluate(cx, expr.right)
    if isinstance(left, Value) or isinstance(right, Value):
        return _tensor_binary(cx, expr, left, right)
    if is_number(left) and is_number(right):
        return compare(expr.op, left, right, expr.span) if expr.op in COMPARISONS else _number_binary(expr, left, right)
    inits = isinstance(left, Init) or isinstance(right, Init)
    if inits and (isinstance(left, Poly) or isinstance(right, Poly)):
        raise error("A307", f"an initialisation and a free size: `{expr.span.text}`", expr.span, help=SIZED)
    if inits and expr.op in OPERATORS and all(isinstance(value, Init) or is_number(value) for value in (left, right)):
        return combine_init(expr.op, left, right)
    if expr.op in ("==", "!="):
        _check_comparable(expr, left, right)
        return (left == right) == (expr.op == "==")
    return _other_binary(expr, left, right)


def _check_comparable(expr: syntax.Binary, left: Any, right: Any) -> None:
    """Two mentions of a layer are two layers, so `act == gelu` would never hold."""
    if None not in (left, right) and (isinstance(left, Layer) or isinstance(right, Layer)):
        place = expr.left if isinstance(left, Layer) else expr.right
        help = "a layer can be compared with `none` only; a `bool` or `str` hyper-parameter says which of two is meant"
        raise error("A303", f"`{place.span.text}` is a layer, and layers are not compared", expr.span, help=help)


def _number_binary(expr: syntax.Binary, left: Any, right: Any) -> Any:
    if expr.op not in OPERATORS:
        raise error("A303", f"`{expr.op}` does not work on numbers", expr.span)
    return arithmetic(expr.op, left, right, expr.span)


def _other_binary(expr: syntax.Binary, left: Any, right: Any) -> Any:
    if expr.op == "+" and isinstance(left, tuple) and isinstance(right, tuple):
        check_length(weigh(left) + weigh(right), expr.span)
        return left + right
    if expr.op == "*" and isinstance(left, tuple) and isinstance(right, int):
        check_length(weigh(left) * right, expr.span)
        return left * right
    if expr.op == "+" and isinstance(left, str) and isinstance(right, str):
        check_length(len(left) + len(right), expr.span)
        return left + right
    if expr.op == "in" and isinstance(right, tuple):
        return left in right
    if expr.op == "&" and hasattr(left, "meet") and hasattr(right, "meet"):
        return left.meet(right)
    help = "apply the layer first: `(x -> f) + y`" if isinstance(left, Layer) or isinstance(right, Layer) else None
    raise error(
        "A701" if help else "A303",
        f"`{expr.op}` does not work on a {kind_of(left)} and a {kind_of(right)}",
        Label(expr.left.span, f"a {kind_of(left)}"),
        Label(expr.right.span, f"a {kind_of(right)}"),
        help=help,
    )


def _tensor_binary(cx: Context, expr: syntax.Binary, left: Any, right: Any) -> Any:
    name = {**OPERATORS, **COMPARISONS}.get(expr.op)
    if expr.op == "+" and isinstance(right, Value) and left == 0 and is_float(right.type.dtype):
        return right  # the first term of a sum that starts from 0
    if name is None or not all(isinstance(value, Value) or is_number(value) for value in (left, right)):
        if expr.op in ("==", "!=") and None in (left, right):
            return expr.op == "!="  # a tensor is not none
        return _other_binary(expr, left, right)
    fields = {side: value for side, value in (("left", left), ("right", right)) if not isinstance(value, Value)}
    pairs = [(port, value) for port, value in (("a", left), ("b", right)) if isinstance(value, Value)]
    return calls.operation(cx, name, pairs, fields, expr.span, _places(expr))


def _places(expr: syntax.Binary) -> dict[str, Span]:
    """Where the operands and the sign of an operator stand."""
    left, right = expr.left.span, expr.right.span
    sign = left.source.text.find(expr.op, left.end, right.start)
    at = Span(left.source, sign, sign + len(expr.op)) if sign >= 0 else expr.span
    return {"a": left, "b": right, "": at}


def _logic(cx: Context, expr: syntax.Binary) -> Any:
    left = expressions.evaluate(cx, expr.left)
    if isinstance(left, bool) and left == (expr.op == "or"):
        return left
    right = expressions.evaluate(cx, expr.right)
    if isinstance(left, Value) and isinstance(right, Value):
        pairs = [("a", left), ("b", right)]
        return calls.operation(cx, f"logical_{expr.op}", pairs, {}, expr.span, _places(expr))
    if isinstance(left, Conditions) or isinstance(right, Conditions):
        if expr.op == "and" or right is True:
            return both(left, right, expr.span) if expr.op == "and" else True
        if left is False or right is False:
            return left if right is False else right
        raise error("A309", f"`{expr.span.text}` depends on a free size", expr.span)
    if not isinstance(left, bool) or not isinstance(right, bool):
        raise error("A303", f"`{expr.op}` takes truth values, not a {kind_of(left)} and a {kind_of(right)}", expr.span)
    return right
