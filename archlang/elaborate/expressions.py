"""The value of an expression."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

from archlang import syntax
from archlang.diagnostics import ArchError, error, suggest
from archlang.elaborate import arithmetic, calls, scans, subscripts, weights
from archlang.elaborate.context import Context
from archlang.elaborate.files import refuse_taken
from archlang.elaborate.frame import seen
from archlang.elaborate.hints import INSTEAD, missing
from archlang.elaborate.operators import BUILTINS, CONSTANTS
from archlang.elaborate.scope import Scope
from archlang.elaborate.values import (
    UNKNOWN,
    AxisName,
    BlockDef,
    Conditions,
    Layer,
    Unknown,
    bounded,
    fresh,
    is_number,
    kind_of,
    leaves,
    show,
)
from archlang.ir import Value
from archlang.primitive import AxisMap, Construct
from archlang.primitives import CONSTRUCTS
from archlang.shapes import axis
from archlang.sizes import Poly, fraction
from archlang.source import Span


@dataclass(frozen=True, slots=True, eq=False)
class Known(syntax.Expr):
    """An expression that was evaluated already."""

    value: Any


def evaluate(cx: Context, expr: syntax.Expr) -> Any:
    """The value of an expression. Poisoned by an earlier error, it raises an `ArchError` that says nothing new."""
    cx.session.budget.step(expr.span)
    return _FORMS[type(expr)](cx, expr)


def number(cx: Context, expr: syntax.Expr) -> Any:
    """An expression that must be a number."""
    value = evaluate(cx, expr)
    if not is_number(value):
        raise error("A303", f"a number is needed, and this is a {kind_of(value)}: {show(value)}", expr.span)
    return value


def whole(cx: Context, expr: syntax.Expr) -> Any:
    """An expression that must be a size or count."""
    return as_whole(cx, number(cx, expr), expr)


def as_whole(cx: Context, value: Any, expr: syntax.Expr) -> Any:
    """A number that must be whole; where that depends on free sizes it becomes a condition. The error shows the
    arithmetic.
    """
    if not is_number(value):
        raise error("A303", f"a whole number is needed, and this is a {kind_of(value)}: {show(value)}", expr.span)
    if isinstance(value, Poly):
        above, below = fraction(value)
        if below != 1 and not cx.session.facts.divides(below, above):
            raise error("A207", f"`{expr.span.text}` is {value}, which is not whole", expr.span)
        return value
    if isinstance(value, float) or Fraction(value).denominator != 1:
        title = f"`{expr.span.text}` is {show(value)}{made_of(cx, expr)}, which is not a whole number"
        rounded = isinstance(value, float) and value.is_integer()
        raise error(
            "A207", title, expr.span, help="it was rounded on the way; `round` makes it whole" if rounded else None
        )
    return int(value)


def made_of(cx: Context, expr: syntax.Expr) -> str:
    """The numbers in an expression with their values: ` (with c = 64)` for `c / 3`."""
    known = {part.span.text: evaluate(cx, part) for part in _parts(cx, expr)}
    shown = ", ".join(f"{text} = {show(value)}" for text, value in known.items() if show(value) != text)
    return f" (with {shown})" if shown else ""


def _parts(cx: Context, expr: Any) -> list[syntax.Expr]:
    if isinstance(expr, syntax.Name):
        return [expr] if (binding := cx.scope.find(expr.id)) and is_number(binding.value) else []
    if isinstance(expr, syntax.Attribute):
        return [expr] if isinstance(expr.value, syntax.Name) else []
    if isinstance(expr, syntax.Binary):
        return _parts(cx, expr.left) + _parts(cx, expr.right)
    return _parts(cx, expr.operand) if isinstance(expr, syntax.Unary) else []


def truth(cx: Context, expr: syntax.Expr) -> bool:
    """A condition that decides what is built; it must be known now."""
    value = evaluate(cx, expr)
    if isinstance(value, Conditions):
        raise error(
            "A309",
            f"`{expr.span.text}` depends on a free size: {value}",
            expr.span,
            help="give the axis a size, or state it with `require`",
        )
    if not isinstance(value, bool):
        help = "`where(condition, a, b)` chooses for each element" if isinstance(value, Value) else None
        raise error("A303", f"a condition is true or false, and this is a {kind_of(value)}", expr.span, help=help)
    return value


# ---- names
def _name(cx: Context, expr: syntax.Name) -> Any:
    value = lookup(cx, expr.id, expr.span)
    if isinstance(value, BlockDef) or (isinstance(value, type) and issubclass(value, Construct)):
        return calls.make(cx, value, (), expr.span)
    return fresh(value)  # a recipe makes new weights at each mention


def lookup(cx: Context, name: str, span: Span) -> Any:
    """What a name means: of the block, of the file, of the prelude."""
    if cx.scope.find(name) is not None:
        if (value := cx.scope.get(name)) is UNKNOWN:
            raise ArchError()
        return _seen(cx, value) if cx.scanned else value
    if name in cx.module.names:
        return cx.module.names[name]
    if name in CONSTRUCTS:
        return CONSTRUCTS[name]
    if name in CONSTANTS:
        return CONSTANTS[name]
    if name in cx.module.models:
        raise error(
            "A103",
            f"`{name}` is a model, and a model is not a layer",
            span,
            help="make it a block, and call the block from a model",
        )
    if name in BUILTINS:
        raise error("A106", f"`{name}` is a function and needs its arguments", span)
    if name in cx.module.places:
        raise ArchError()
    raise missing(name, span, known_names(cx))


def _seen(cx: Context, value: Any) -> Any:
    """A value of the surroundings as the body of a scan sees it: tensors at the position at hand."""
    if isinstance(value, tuple):
        return tuple(_seen(cx, item) for item in value)
    if isinstance(value, Layer):
        hypers, inputs = (
            {name: replace(given, value=_seen(cx, given.value)) for name, given in part.items()}
            for part in (value.hypers, value.inputs)
        )
        return replace(value, hypers=hypers, inputs=inputs, stages=tuple(_seen(cx, stage) for stage in value.stages))
    return seen(cx.frame, value) if isinstance(value, Value) else value


def known_names(cx: Context) -> list[str]:
    return [*cx.scope.visible(), *cx.module.names, *CONSTRUCTS, *BUILTINS, *CONSTANTS]


# ---- lists and axis maps
def _list(cx: Context, expr: syntax.List) -> Any:
    if any(item.name is not None for item in expr.items):
        return AxisMap(tuple(_axis_item(cx, item) for item in expr.items))
    values = tuple(evaluate(cx, item.value) for item in expr.items)
    return bounded(values, expr.span)


def _axis_item(cx: Context, item: syntax.Argument) -> tuple[str, Any]:
    """`h = 7`, or `h` for `h = h`."""
    if item.name is not None:
        return item.name, evaluate(cx, item.value)
    if not isinstance(item.value, syntax.Name):
        raise error("A206", "an axis map holds `axis = value` or the names of axes", item.span)
    return item.value.id, evaluate(cx, item.value)


def _comprehension(cx: Context, expr: syntax.Comprehension) -> Any:
    values = []
    for item in items(cx, expr.iterable):
        inner = cx.inner(scope=Scope(cx.scope))
        unpack(inner, expr.targets, item)
        values.append(evaluate(inner, expr.value))
    return bounded(tuple(values), expr.span)


def items(cx: Context, expr: syntax.Expr) -> tuple[Any, ...]:
    """The items of a list that a loop runs over."""
    value = evaluate(cx, expr)
    if not isinstance(value, tuple):
        help = f"write `range({expr.span.text})` to count" if is_number(value) else None
        raise error("A303", f"a loop runs over a list, and this is a {kind_of(value)}", expr.span, help=help)
    return value


def unpack(cx: Context, pattern: syntax.Pattern, value: Any) -> None:
    """Define the names of a loop."""
    if len(pattern.items) == 1:
        _define(cx, pattern.items[0], value)
        return
    if not isinstance(value, tuple) or len(value) != len(pattern.items):
        count = len(value) if isinstance(value, tuple) else 1
        raise error("A310", f"{len(pattern.items)} names for {count} value{'s' if count != 1 else ''}", pattern.span)
    for item, part in zip(pattern.items, value, strict=True):
        _define(cx, item, part)


def _define(cx: Context, item: syntax.Name | syntax.Pattern, value: Any) -> None:
    if isinstance(item, syntax.Pattern):
        unpack(cx, item, value)
    else:
        refuse_taken(cx.module, item.id, item.span)
        cx.scope.define(item.id, value, item.span, "loop variable")


# ---- choices
def _if_else(cx: Context, expr: syntax.IfElse) -> Any:
    return evaluate(cx, expr.then if truth(cx, expr.condition) else expr.otherwise)


def _match(cx: Context, expr: syntax.Match) -> Any:
    subject = evaluate(cx, expr.subject)
    for arm in expr.arms:
        if isinstance(arm.pattern, syntax.Name) and arm.pattern.id == "_":
            return evaluate(cx, arm.value)
        if subject == evaluate(cx, arm.pattern):
            return evaluate(cx, arm.value)
    raise error(
        "A311", f"no arm of this `match` is for {show(subject)}", expr.subject.span, help="add an arm `_ => ...`"
    )


# ---- layers
def _pipe(cx: Context, expr: syntax.Pipe) -> Any:
    value = evaluate(cx, expr.stages[0])
    for before, stage in pairwise(expr.stages):
        layer = evaluate(cx, stage)
        if not isinstance(layer, Layer):
            what = f"a {kind_of(layer)}"
            help = (
                "`->` gives the value on its left to the layer on its right; this one has all its inputs"
                if isinstance(layer, Value)
                else None
            )
            raise error("A705", f"`->` needs a layer on its right, and this is {what}", stage.span, help=help)
        value = calls.pipe(cx, value, layer, before.span.to(stage.span), before.span)
    return value


def _named(cx: Context, expr: syntax.Named) -> Any:
    """A label names the weights of the layer and nothing else."""
    if isinstance(expr.value, syntax.Call):
        return calls.call(cx, expr.value, label=(expr.label, expr.span))
    layer = evaluate(cx, expr.value)
    if not isinstance(layer, Layer):
        raise error(
            "A706",
            f"`as` names the weights of a layer, and this is a {kind_of(layer)}",
            expr.span,
            help=f"bind it with `{expr.label} = ...`",
        )
    if calls.shared_from_outside(cx, layer, expr.value):
        return layer
    return calls.labelled(layer, expr.label, expr.span)


def _call(cx: Context, expr: syntax.Call) -> Any:
    return calls.call(cx, expr)


def _attribute(cx: Context, expr: syntax.Attribute) -> Any:
    value = evaluate(cx, expr.value)
    if isinstance(value, Value):
        if expr.name not in value.type:
            applies = expr.name in CONSTRUCTS or expr.name in cx.module.names
            raise error(
                "A205",
                f"there is no axis `{expr.name}` in {value.type}",
                expr.span,
                help=f"`-> {expr.name}` applies it"
                if applies
                else INSTEAD.get(expr.name) or suggest(expr.name, value.type.names),
            )
        return value.type.size(expr.name)
    if isinstance(value, Layer):
        return weights.weight(cx, value, expr.name, expr.span)
    raise error("A107", f"a {kind_of(value)} has no `.{expr.name}`", expr.span)


# ---- arguments whose reading depends on what takes them
def axes(cx: Context, expr: syntax.Expr) -> tuple[str, ...]:
    """An argument that names axes or roles: `c`, `[heads, c]`, `space`."""
    if isinstance(expr, syntax.List) and all(item.name is None for item in expr.items):
        return tuple(name for item in expr.items for name in axes(cx, item.value))
    if isinstance(expr, syntax.Name):
        binding = cx.scope.find(expr.id)
        value = cx.scope.get(expr.id) if binding is not None else None
        if isinstance(value, AxisName):
            return (value.name,)
        if isinstance(value, tuple) and value and all(isinstance(item, AxisName) for item in value):
            return tuple(item.name for item in value)
        return (expr.id,)
    raise error("A206", "axes are given by name: `on = c`, `on = [h, w]`, `on = space`", expr.span)


def units(cx: Context, expr: syntax.Expr) -> Any:
    """An argument that is a size, or the axes to make: `64`, `[heads, c = c / heads]`."""
    if not isinstance(expr, syntax.List):
        return evaluate(cx, expr)
    made = []
    for item in expr.items:
        name, value = _axis_item(cx, item)
        made.append(axis(name, as_whole(cx, value, item.value)))
    return tuple(made)


def names_axes(cx: Context, expr: syntax.Expr) -> bool:
    """Whether an expression is made of names that may be those of axes: not of tensors, layers or what failed to be
    defined. In a list one such name is enough: `[p, q]` are axes where only `q` is a tensor too.
    """
    if isinstance(expr, syntax.List):
        bare = all(item.name is None and isinstance(item.value, syntax.Name | syntax.List) for item in expr.items)
        return bare and (not expr.items or any(names_axes(cx, item.value) for item in expr.items))
    if not isinstance(expr, syntax.Name):
        return False
    binding = cx.scope.find(expr.id)
    if binding is None:
        return True
    return binding.value != () and not any(isinstance(leaf, Unknown | Value | Layer) for leaf in leaves(binding.value))


_FORMS: dict[type, Callable[[Context, Any], Any]] = {
    Known: lambda cx, expr: expr.value,
    syntax.Name: _name,
    syntax.Number: lambda cx, expr: int(expr.value) if expr.value.denominator == 1 else expr.value,
    syntax.String: lambda cx, expr: expr.value,
    syntax.Constant: lambda cx, expr: expr.value,
    syntax.List: _list,
    syntax.Comprehension: _comprehension,
    syntax.Call: _call,
    syntax.Index: lambda cx, expr: subscripts.index(cx, expr),
    syntax.Attribute: _attribute,
    syntax.Unary: lambda cx, expr: arithmetic.unary(cx, expr),
    syntax.Binary: lambda cx, expr: arithmetic.binary(cx, expr),
    syntax.IfElse: _if_else,
    syntax.Pipe: _pipe,
    syntax.Named: _named,
    syntax.Match: _match,
    syntax.Scan: lambda cx, expr: scans.scan(cx, expr),
}
