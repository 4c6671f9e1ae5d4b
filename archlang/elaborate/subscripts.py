"""Subscripts: items of lists, positions and slices of axes, tensors as indices."""

from typing import Any

from archlang import syntax
from archlang.diagnostics import error, suggest
from archlang.elaborate import calls, expressions
from archlang.elaborate.context import Context
from archlang.elaborate.values import fresh, is_number, kind_of
from archlang.ir import Value
from archlang.primitive import AxisMap
from archlang.shapes import TensorType


def index(cx: Context, expr: syntax.Index) -> Any:
    value = expressions.evaluate(cx, expr.value)
    for subscript in expr.subscripts:
        if isinstance(value, Value):
            value = _on_axis(cx, value, subscript)
        elif isinstance(value, tuple):
            value = _of_list(cx, value, subscript)
        elif (
            isinstance(value, AxisMap)
            and isinstance(subscript.value, syntax.Name)
            and subscript.value.id in dict(value.items)
        ):
            value = value[subscript.value.id]
        else:
            raise error("A312", f"a {kind_of(value)} cannot be indexed", expr.value.span)
    return value


def _of_list(cx: Context, value: tuple[Any, ...], subscript: syntax.Subscript) -> Any:
    if subscript.axis is not None:
        raise error("A312", "a list has no axes", subscript.span, help="index it by position: `a[0]`")
    if isinstance(subscript.value, syntax.Slice):
        return value[_slice(cx, subscript.value)]
    at = expressions.whole(cx, subscript.value)
    if not isinstance(at, int) or not -len(value) <= at < len(value):
        raise error("A312", f"there is no item {at} in a list of {len(value)}", subscript.span)
    return fresh(value[at])


def _first_axis(type_: TensorType) -> str:
    """The axis that an index most likely means."""
    return next((axis.name for axis in type_ if axis.role != "batch"), "b")


def _slice(cx: Context, part: syntax.Slice) -> slice:
    bounds = [None if bound is None else expressions.whole(cx, bound) for bound in (part.start, part.stop, part.step)]
    if bounds[2] == 0:
        raise error("A312", "a step of zero", part.span)
    return slice(*bounds)


def _on_axis(cx: Context, value: Value, subscript: syntax.Subscript) -> Any:
    if subscript.axis is None:
        raise error(
            "A211",
            "axes are found by name",
            subscript.span,
            help=f"write `[{_first_axis(value.type)} = {subscript.span.text}]`",
        )
    if subscript.axis not in value.type:
        raise error(
            "A205",
            f"there is no axis `{subscript.axis}` in {value.type}",
            subscript.span,
            help=suggest(subscript.axis, value.type.names),
        )
    if isinstance(subscript.value, syntax.Slice):
        part = _slice(cx, subscript.value)
        fields = {"axis": subscript.axis, "start": part.start, "stop": part.stop, "stride": part.step}
        return calls.operation(
            cx, "slice", [("x", value)], {k: v for k, v in fields.items() if v is not None}, subscript.span
        )
    at = expressions.evaluate(cx, subscript.value)
    if isinstance(at, Value):
        return calls.operation(cx, "gather", [("x", value), ("index", at)], {"axis": subscript.axis}, subscript.span)
    index = expressions.as_whole(cx, at, subscript.value) if is_number(at) else at
    return calls.operation(cx, "select", [("x", value)], {"axis": subscript.axis, "index": index}, subscript.span)
