"""`scan t carry S: [..] = 0 { S = ..  yield .. }`: a body run at one position of an axis after another."""

from dataclasses import replace
from typing import Any

from archlang import syntax
from archlang.diagnostics import ArchError, Label, error
from archlang.elaborate import blocks, calls, expressions, signatures, statements
from archlang.elaborate.context import Context, Yields
from archlang.elaborate.files import refuse_taken
from archlang.elaborate.frame import ScanFrame
from archlang.elaborate.limits import check_network
from archlang.elaborate.scope import Binding, Scope
from archlang.elaborate.values import is_number, kind_of
from archlang.ir import Graph, Scan, Value
from archlang.primitive import AxisMap
from archlang.shapes import TensorType, is_float
from archlang.source import Span


def scan(cx: Context, expr: syntax.Scan) -> Any:
    """What a scan yields, with the axis again."""
    axis = _axis(cx, expr.order)
    frame = ScanFrame(Graph("scan", expr.span), cx.frame, axis_name=axis)
    frame.labels, frame.numbered = cx.frame.labels, cx.frame.numbered
    frame.wishes = statements.called(cx.scope, blocks.mentioned(expr.body))
    yielded = Yields(frame)
    inner = cx.inner(frame=frame, scope=Scope(cx.scope), scan=yielded, scanned=True)
    inner.scope.assigned = {}
    starts = {carry.port.name: _start(cx, inner, axis, carry) for carry in expr.carries}
    if (returned := statements.run(inner, expr.body)) is not None:
        raise error("A318", "`return` inside a scan", returned.spans[0], help="`yield` what each position makes")
    _check_body(cx, inner, expr)
    if not yielded.values:
        raise error("A322", "the scan yields nothing", _head(expr), help="end its body with `yield ...`")
    finals = [(carry.port.name, _final(cx, inner, carry)) for carry in expr.carries]
    frame.graph.outputs = [*finals, *(("", frame.capture(value)) for value in yielded.values)]
    return _add(cx, frame, starts, expr)


def _axis(cx: Context, order: syntax.Expr) -> str:
    axes = expressions.axes(cx, order)
    if len(axes) != 1:
        raise error("A206", f"a scan runs along one axis, and these are {len(axes)}", order.span)
    return axes[0]


def _head(expr: syntax.Scan) -> Span:
    return Span(expr.span.source, expr.span.start, expr.order.span.end)


# ---- carries
def _start(cx: Context, inner: Context, axis: str, carry: syntax.Carry) -> Any:
    """What a carry starts from: a number, or a tensor of its type."""
    name, span = carry.port.name, carry.port.span
    refuse_taken(cx.module, name, span)
    if (known := cx.scope.find(name) or inner.scope.names.get(name)) is not None:
        raise error("A102", f"`{name}` is defined twice", span, Label(known.span, f"{known.word} here"))
    type_ = signatures.declare(cx, carry.port.type, "carry")
    if axis in type_:
        raise error("A206", f"`{name}` is carried along `{axis}`, and has it as an axis", carry.port.type.span)
    value = expressions.evaluate(cx, carry.value)
    if isinstance(value, Value):
        value = _spread(cx, type_, value, carry)
    elif not is_number(value):
        raise error(
            "A303", f"a carry starts from a number or a tensor, and this is a {kind_of(value)}", carry.value.span
        )
    inner.scope.define(name, inner.frame.graph.add_input(name, type_, span), span, "name")
    return value


def _spread(cx: Context, type_: TensorType, value: Value, carry: syntax.Carry) -> Value:
    """A tensor as the start of a carry; axes that it lacks are repeated."""
    lacking = tuple((axis.name, axis.size) for axis in type_ if axis.name not in value.type)
    if lacking:
        value = calls.operation(cx, "expand", [("x", value)], {"sizes": AxisMap(lacking)}, carry.value.span)
    _check_type(cx, carry, type_, value.type, carry.value.span)
    return value


def _final(cx: Context, inner: Context, carry: syntax.Carry) -> Value:
    """What a carry leaves to the next position."""
    binding = inner.scope.names[carry.port.name]
    value = inner.frame.capture(binding.value)
    _check_type(cx, carry, inner.frame.graph.inputs[carry.port.name].type, value.type, binding.span)
    return value


def _check_type(cx: Context, carry: syntax.Carry, want: TensorType, have: TensorType, place: Span) -> None:
    """A carry has one type at all positions."""
    name = carry.port.name
    agree = set(have.names) == set(want.names) and all(
        cx.session.facts.equal(axis.size, want.size(axis.name)) for axis in have
    )
    if not agree or not (have.dtype == want.dtype or (want.dtype == "float" and is_float(have.dtype))):
        raise error(
            "A221",
            f"the carry `{name}` is {want}, and becomes {have}",
            Label(place, f"{have} here"),
            Label(carry.port.type.span, "declared here"),
            help=_advice(name, want, have),
        )


def _advice(name: str, want: TensorType, have: TensorType) -> str:
    if extra := [axis for axis in have if axis.name not in want]:
        return f"sum over {', '.join(f'`{axis.name}`' for axis in extra)}, or declare {_axes(want, have)}"
    if lost := [f"`{axis.name}`" for axis in want if axis.name not in have]:
        return f"{', '.join(lost)} must stay, or leave the declaration"
    if want.dtype != have.dtype:
        return f"`cast({name}, {want.dtype})`, or declare {have}"
    return "every position must leave the type that it was given"


def _axes(want: TensorType, have: TensorType) -> str:
    extra = tuple(axis for axis in have if axis.name not in want)
    return str(replace(want, axes=(*want.axes, *extra)))


# ---- the body
def yields(cx: Context, statement: syntax.Yield) -> None:
    """`yield a, b`: what a position makes."""
    found = cx.scan
    if found is None:
        raise error("A321", "`yield` outside a scan", statement.span, help="a block gives its value with `return`")
    if found.span is not None:
        raise error(
            "A322",
            "a scan yields once at each position",
            Label(statement.span, "the second"),
            Label(found.span, "the first"),
            help="`yield a, b` yields several values",
        )
    values = [expressions.evaluate(cx, value) for value in statement.values]
    for value, part in zip(values, statement.values, strict=True):
        if not isinstance(value, Value):
            raise error("A303", f"a scan yields tensors, and this is a {kind_of(value)}", part.span)
        if cx.frame is not found.frame:
            raise error("A322", "`yield` inside a loop", statement.span, help="yield after the loop")
    found.values, found.span = tuple(values), statement.span


def _check_body(cx: Context, inner: Context, expr: syntax.Scan) -> None:
    """Something has the axis, and only carries last from one position to the next."""
    frame = inner.frame
    assert isinstance(frame, ScanFrame)
    for name, binding in inner.scope.assigned.items():
        if cx.scope.find(name) is binding:
            raise _leaks(name, binding)
    if frame.axis is None:
        title = f"nothing that the scan reads has the axis `{frame.axis_name}`"
        raise error("A205", title, expr.order.span, help="it runs along an axis of the tensors in its body")
    for outer in frame.captured:
        size = outer.type.size(frame.axis_name) if frame.axis_name in outer.type else frame.axis.size
        if not cx.session.facts.equal(size, frame.axis.size):
            title = f"the scan runs along `{frame.axis_name}`, whose sizes do not agree: {frame.axis.size} and {size}"
            raise error("A204", title, expr.order.span)


def _leaks(name: str, binding: Binding) -> ArchError:
    title = f"`{name}` is of the surroundings, and a scan cannot change it"
    help = f"what lasts from one position to the next is a carry: `carry {name}2: [..] = {name}`"
    return error("A104", title, binding.span, help=help)


def _add(cx: Context, frame: ScanFrame, starts: dict[str, Any], expr: syntax.Scan) -> Any:
    """The scan as one node, and what it yields."""
    assert frame.axis is not None
    op = Scan(
        graph=frame.graph,
        axis=frame.axis,
        carries=tuple(starts),
        each=tuple(frame.each),
        starts={name: value for name, value in starts.items() if not isinstance(value, Value)},
    )
    pairs = [(name, value) for name, value in starts.items() if isinstance(value, Value)]
    pairs += [(port, value) for value, port in frame.captured.items()]
    cx.frame.size += frame.size
    check_network(cx.frame.size, expr.span)
    values = calls.add(cx, op, pairs, expr.span, {})
    return values if len(values) > 1 else values[0]
