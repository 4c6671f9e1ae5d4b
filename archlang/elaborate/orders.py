"""Orders: what runs along one axis, over several. `over = along(h, w)` puts the inputs in sequence, runs along it, and
puts the result back on the map; `over = full` sums both directions.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from archlang.diagnostics import error
from archlang.elaborate import calls
from archlang.elaborate.context import Context
from archlang.elaborate.values import Given, Layer, kind_of, show
from archlang.ir import Value
from archlang.primitives.domain import Full
from archlang.primitives.order import Along, Order
from archlang.source import Span


def lower(cx: Context, layer: Layer, inputs: dict[str, Given], span: Span) -> Any:
    """The result of a layer that runs along one axis, over the order or both directions that it was given."""
    hypers = dict(layer.hypers)
    given = hypers.pop("over")
    layer = replace(layer, hypers=hypers, inputs={})
    if given.value is None:
        return calls.apply(cx, layer, inputs, span)
    if not isinstance(given.value, Full | Order):
        said = f"`over` takes an order, as `along(h, w)`, and this is a {kind_of(given.value)}: {show(given.value)}"
        raise error("A303", said, given.span)
    first = next(iter(inputs.values())).value
    order = given.value if isinstance(given.value, Order) else Along(axes=_all_axes(first, given.span))
    _check(order, first, given.span)
    final = hypers.get("final")
    if final and final.value and isinstance(given.value, Full):
        axes = ", ".join(order.axes)
        help = f"run one after the other: `over = along({axes})`, `over = along({axes}, reverse = true)`"
        raise error("A319", "both directions leave a state, and `final` is one", final.span, help=help)
    path = order.model_copy(update={"reverse": False})
    axis = path.axes[0] if len(path.axes) == 1 else _spare(inputs)
    if len(path.axes) > 1:
        made_of = {item.value: _in_sequence(cx, path, axis, item, given.span) for item in inputs.values()}
        inputs = {name: made_of[item.value] for name, item in inputs.items()}
    directions = (False, True) if isinstance(given.value, Full) else (order.reverse,)
    made = list(_run(cx, layer, inputs, given.span, span, axis, directions))
    total, *finals = made[0] if isinstance(made[0], tuple) else made[:1]
    if len(made) > 1:
        total = calls.operation(cx, "add", [("a", total), ("b", made[1])], {}, span)
    if len(path.axes) == 1:
        return (total, *finals) if finals else total
    sizes = tuple((name, first.type.size(name)) for name in path.axes)
    fields = {"over": path, "on": (axis,), "sizes": sizes}
    total = calls.operation(cx, "unsequence", [("x", total)], fields, span, {"over": given.span})
    return (total, *finals) if finals else total


def _run(
    cx: Context, layer: Layer, inputs: dict[str, Given], over: Span, span: Span, axis: str, directions: tuple[bool, ...]
) -> Iterator[Any]:
    for reverse in directions:
        own = {"on": Given((axis,), over)} | ({"reverse": Given(True, over)} if reverse else {})
        yield calls.apply(cx, replace(layer, hypers={**layer.hypers, **own}), inputs, span)


def _all_axes(x: Value, span: Span) -> tuple[str, ...]:
    """The axes that `full` runs over: those of time or, where there are none, of space."""
    axes = x.type.of_role("time") or x.type.of_role("space")
    if not axes:
        raise error("A205", f"there is no axis of role space or time in {x.type}", span)
    return axes


def _check(order: Order, x: Value, span: Span) -> None:
    for name in order.axes:
        if name not in x.type:
            raise error("A205", f"there is no axis `{name}` in {x.type}", span)


def _spare(inputs: dict[str, Given]) -> str:
    """A name for the axis of the path that no input has."""
    taken = {name for item in inputs.values() for name in item.value.type.names}
    return (
        "n"
        if "n" not in taken
        else next(f"path{i or ''}" for i in range(len(taken) + 1) if f"path{i or ''}" not in taken)
    )


def _in_sequence(cx: Context, path: Order, axis: str, item: Given, over: Span) -> Given:
    """An input along the path; one that has none of its axes as it is."""
    here = [name for name in path.axes if name in item.value.type]
    if not here:
        return item
    if len(here) < len(path.axes):
        lacks = ", ".join(f"`{name}`" for name in path.axes if name not in here)
        title = f"an input of `{path}` has all of its axes or none, and this one lacks {lacks}: {item.value.type}"
        raise error("A205", title, item.span, help="`expand(x, NAME = SIZE)` repeats it")
    fields = {"over": path, "on": (axis,)}
    made = calls.operation(cx, "sequence", [("x", item.value)], fields, item.span, {"over": over})
    return Given(made, item.span)
