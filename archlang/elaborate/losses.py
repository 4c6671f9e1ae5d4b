"""`loss NAME = EXPR`: what training adds to the loss of a network, wherever in it it is stated."""

from typing import Any

from archlang import syntax
from archlang.diagnostics import Label, error
from archlang.elaborate import expressions
from archlang.elaborate.context import Context
from archlang.elaborate.frame import Frame
from archlang.elaborate.values import kind_of
from archlang.ir import Value
from archlang.shapes import is_float


def collect(cx: Context, statement: syntax.Loss) -> None:
    """Remember the loss; the graphs around give it on, up to the model."""
    value = expressions.evaluate(cx, statement.value)
    _check(statement, value)
    value = cx.frame.capture(value)
    cx.frame.graph.rename(value, statement.name)
    cx.frame.losses.append((statement.name, value))


def _check(statement: syntax.Loss, value: Any) -> None:
    place = statement.value.span
    if not isinstance(value, Value):
        raise error("A303", f"a loss is a tensor, and this is a {kind_of(value)}", place)
    if value.type.axes:
        axes = ", ".join(value.type.names)
        title = f"the loss `{statement.name}` is one number, and this has the axes {axes}"
        raise error("A206", title, Label(place, str(value.type)), help=f"`mean(..., on = [{axes}])`")
    if not is_float(value.type.dtype):
        raise error("A214", f"a loss is a real number, and this is {value.type.dtype}", place, help="`cast(x, float)`")


def gather(frame: Frame) -> None:
    """The losses of a model by name: one value for each place that states one, in order."""
    for name, value in frame.losses:
        frame.graph.losses.setdefault(name, []).append(value)
    if frame.losses and "losses" in frame.labels:
        title = "weights cannot be called `losses` in a model that has a `loss`: the module keeps them there"
        raise error("A714", title, frame.labels["losses"])
