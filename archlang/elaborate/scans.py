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
from archlang.elaborate.values import UNKNOWN, is_number, kind_of
from archlang.ir import Graph, Scan, Value
from archlang.primitive import AxisMap
from archlang.primitives.order import Along, Order
from archlang.shapes import Axis, TensorType, is_float
from archlang.shapes import axis as axis_
from archlang.sizes import Poly, product
from archlang.source import Span


def scan(cx: Context, expr: syntax.Scan) -> Any:
    """What a scan yields, with the axis again."""
    order = _order(cx, expr.order)
    frame = ScanFrame(Graph("scan", expr.span), cx.frame, axes=order.axes)
    frame.labels, frame.numbered = cx.frame.labels, cx.frame.numbered
    frame.wishes = statements.called(cx.scope, blocks.mentioned(expr.body))
    yielded = Yields(frame)
    inner = cx.inner(frame=frame, scope=Scope(cx.scope), scan=yielded, scanned=True)
    inner.scope.assigned = {}
    starts = {carry.port.name: _start(cx, inner, carry) for carry in expr.carries}
    _run(cx, inner, expr.body)
    _check_axes_of(cx, frame, expr)
    if not yielded.values:
        raise error("A322", "the scan yields nothing", _head(expr), help="end its body with `yield ...`")
    finals = [(carry.port.name, _final(cx, inner, carry)) for carry in expr.carries]
    beside = [value for _, value in frame.losses]
    frame.graph.outputs = [*finals, *(("", frame.capture(value)) for value in (*yielded.values, *beside))]
    made = _add(cx, frame, order, starts, expr)
    for (name, _), value in zip(frame.losses, made[len(yielded.values) :], strict=True):
        cx.frame.losses.append((name, _mean(cx, frame, name, value, expr)))
    return made[: len(yielded.values)] if len(yielded.values) > 1 else made[0]


def _mean(cx: Context, frame: ScanFrame, name: str, value: Value, expr: syntax.Scan) -> Value:
    """A loss of all positions."""
    cx.frame.graph.rename(value, name)
    made: Value = calls.operation(cx, "mean", [("x", value)], {"on": frame.axes}, expr.span)
    cx.frame.graph.rename(made, name)
    return made


def _order(cx: Context, expr: syntax.Expr) -> Order:
    """What a scan runs along: the name of an axis, or an order over several."""
    known = cx.scope.find(expr.id) if isinstance(expr, syntax.Name) else None
    if isinstance(expr, syntax.Name) and not (known and isinstance(known.value, Order)):
        return Along(axes=expressions.axes(cx, expr))
    order = expressions.evaluate(cx, expr)
    if not isinstance(order, Order):
        title = f"a scan runs along an axis or an order, and this is a {kind_of(order)}"
        raise error("A303", title, expr.span, help="`scan t ...`, `scan snake(h, w) ...`")
    return order


def _head(expr: syntax.Scan) -> Span:
    return Span(expr.span.source, expr.span.start, expr.order.span.end)


# ---- carries
def _start(cx: Context, inner: Context, carry: syntax.Carry) -> Any:
    """What a carry starts from: a number, or a tensor of its type."""
    name, span = carry.port.name, carry.port.span
    refuse_taken(cx.module, name, span)
    if (known := cx.scope.find(name) or inner.scope.names.get(name)) is not None:
        raise error("A102", f"`{name}` is defined twice", span, Label(known.span, f"{known.word} here"))
    if carry.port.type.optional:
        raise error("A303", f"the carry `{name}` is there at every position: its type has no `?`", carry.port.type.span)
    type_ = signatures.declare(cx, carry.port.type, "carry")
    assert isinstance(inner.frame, ScanFrame)
    if scanned := [axis for axis in inner.frame.axes if axis in type_]:
        raise error("A206", f"`{name}` is carried along `{scanned[0]}`, and has it as an axis", carry.port.type.span)
    value = expressions.evaluate(cx, carry.value)
    if isinstance(value, Value):
        value = _spread(cx, type_, value, carry)
    elif not is_number(value):
        raise error(
            "A303", f"a carry starts from a number or a tensor, and this is a {kind_of(value)}", carry.value.span
        )
    elif value and is_float(type_.dtype) and not isinstance(value, Poly):
        value = float(value)
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


def _run(cx: Context, inner: Context, body: tuple[syntax.Statement, ...]) -> None:
    """Run the body; only carries last from one position to the next."""
    try:
        if (returned := statements.run(inner, body)) is not None:
            raise error("A318", "`return` inside a scan", returned.spans[0], help="`yield` what each position makes")
    finally:
        leaked = {name: b for name, b in inner.scope.assigned.items() if cx.scope.find(name) is b}
        for binding in leaked.values():
            binding.value = UNKNOWN
    for name, binding in leaked.items():
        raise _leaks(name, binding)


def _check_axes_of(cx: Context, frame: ScanFrame, expr: syntax.Scan) -> None:
    """Something has the axes, all of them, in one size."""
    if not frame.found:
        title = f"nothing that the scan reads has {_quoted(frame.axes)}"
        raise error("A205", title, expr.order.span, help="it runs over axes of the tensors in its body")
    for outer, port in frame.captured.items():
        _check_axes(cx, frame, outer.type, Label(expr.order.span, f"`{port}` is {outer.type}"))


def _quoted(axes: tuple[str, ...]) -> str:
    return f"the ax{'es' if len(axes) > 1 else 'is'} {', '.join(f'`{name}`' for name in axes)}"


def _check_axes(cx: Context, frame: ScanFrame, type_: TensorType, place: Label) -> None:
    """What is seen at one position has all of the scanned axes, of the same sizes."""
    has = [name for name in frame.axes if name in type_]
    if has and len(has) < len(frame.axes):
        title = f"what a scan reads has all of {_quoted(frame.axes)} or none"
        raise error("A205", title, place, help="`expand(x, NAME = SIZE)` repeats it")
    for name in has:
        size = frame.found[name].size
        if not cx.session.facts.equal(type_.size(name), size):
            title = f"a scan runs along `{name}`, and its sizes do not agree: {size} and {type_.size(name)}"
            raise error("A204", title, place)


def _leaks(name: str, binding: Binding) -> ArchError:
    title = f"`{name}` is of the surroundings, and a scan cannot change it"
    help = f"what lasts from one position to the next is a carry: `carry {name}2: [..] = {name}`"
    return error("A104", title, binding.span, help=help)


def _add(cx: Context, frame: ScanFrame, order: Order, starts: dict[str, Any], expr: syntax.Scan) -> tuple[Value, ...]:
    """The scan as one node, and what it yields; over several axes it runs along the path over them."""
    path = order.model_copy(update={"reverse": False}) if len(order.axes) > 1 else None
    axis = _axis(frame)
    if axis.role == "time" and order.reverse:
        title = f"a scan in reverse sees later positions of the time axis `{axis.name}`"
        raise error("A208", title, expr.order.span, help="call the axis `n` if the network sees it whole")
    op = Scan(
        graph=frame.graph,
        axis=axis,
        carries=tuple(starts),
        each=tuple(frame.each),
        reverse=order.reverse,
        starts={name: value for name, value in starts.items() if not isinstance(value, Value)},
    )
    pairs = [(name, cx.frame.capture(value)) for name, value in starts.items() if isinstance(value, Value)]
    pairs += [(port, _along(cx, path, axis, value, expr)) for value, port in frame.captured.items()]
    cx.frame.size += frame.size
    check_network(cx.frame.size, expr.span)
    values = _made(cx, op, pairs, expr)
    if path is not None:
        sizes = tuple((name, frame.found[name].size) for name in order.axes)
        fields = {"over": path, "on": (axis.name,), "sizes": sizes}
        values = tuple(calls.operation(cx, "unsequence", [("x", value)], fields, expr.span) for value in values)
    return values


def _made(cx: Context, op: Scan, pairs: list[tuple[str, Value]], expr: syntax.Scan) -> tuple[Value, ...]:
    """What a scan yields: of a linear recurrence where it is one, else of a loop."""
    from archlang.elaborate.chains import NotLinearError  # these know recurrences, which not every network has
    from archlang.elaborate.recognise import recognise

    try:
        return recognise(cx, op, dict(pairs), expr.span)
    except NotLinearError as reason:
        values = calls.add(cx, op, pairs, expr.span, {})
        cx.frame.graph.remarks[values[0].node] = f"one position after another: {reason}"
        return values


def _axis(frame: ScanFrame) -> Axis:
    """The axis that a scan runs along: its own, or that of the path over several."""
    if len(frame.axes) == 1:
        return frame.found[frame.axes[0]]
    taken = {axis.name for node in frame.graph for type_ in node.types for axis in type_}
    name = next(name for name in ("n", *(f"path{i or ''}" for i in range(len(taken) + 1))) if name not in taken)
    return axis_(name, product(axis.size for axis in frame.found.values()))


def _along(cx: Context, path: Order | None, axis: Axis, value: Value, expr: syntax.Scan) -> Value:
    """A tensor of the surroundings along the path."""
    if path is None or path.axes[0] not in value.type:
        return value
    fields = {"over": path, "on": (axis.name,)}
    made: Value = calls.operation(cx, "sequence", [("x", value)], fields, expr.order.span)
    return made
