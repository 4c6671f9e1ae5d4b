"""Statements: bodies of blocks, models and loops."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from archlang import syntax
from archlang.diagnostics import ArchError, Label, error
from archlang.elaborate import blocks, expressions, losses, scans, signatures, weights
from archlang.elaborate.context import Context
from archlang.elaborate.files import refuse_taken
from archlang.elaborate.frame import Frame
from archlang.elaborate.hints import SIZED
from archlang.elaborate.limits import MAX_LOOP, MAX_MISTAKES, check_length, too_many_mistakes
from archlang.elaborate.scope import Binding, Scope
from archlang.elaborate.values import UNKNOWN, Conditions, Given, Layer, is_number, kind_of, leaves, show
from archlang.ir import Parameter, Value
from archlang.primitive import OpError
from archlang.primitives.init import Init, as_init
from archlang.shapes import TensorType
from archlang.sizes import Poly
from archlang.source import Span


@dataclass(frozen=True, slots=True)
class Returned:
    """What `return` gave."""

    values: tuple[Any, ...]
    spans: tuple[Span, ...]


def run(cx: Context, body: tuple[syntax.Statement, ...]) -> Returned | None:
    """Run statements until one returns. A failed one is reported, what it should have bound is poisoned, and the rest
    goes on.
    """
    failed = False
    for statement in body:
        cx.session.budget.step(statement.span)
        try:
            if (returned := FORMS[type(statement)](cx, statement)) is not None:
                return returned
        except ArchError as failure:
            if isinstance(statement, syntax.Return):
                raise
            if any(d.code.startswith("A8") for d in failure.diagnostics):
                raise  # a bound was reached: going on would reach it again
            cx.session.collector.add(*(cx.blamed(d) for d in failure.diagnostics))
            if len(cx.session.collector.errors) >= MAX_MISTAKES:
                raise too_many_mistakes(statement.span) from None
            poison(cx, statement)
            failed = True
    if failed:
        raise ArchError()
    return None


def poison(cx: Context, statement: Any) -> None:
    """Bind what a failed statement should have bound, at any depth."""
    for name, span in _bound_by(statement):
        known = cx.scope.find(name)
        if known is None:
            cx.scope.names[name] = Binding(UNKNOWN, span)
        elif known.word in ("name", "input"):
            known.value = UNKNOWN


def _bound_by(statement: Any) -> Iterator[tuple[str, Span]]:
    if isinstance(statement, syntax.Bind):
        yield from ((target.id, target.span) for target in statement.targets)
    if isinstance(statement, syntax.Declare | syntax.Input):
        yield statement.port.name, statement.port.span
    if isinstance(statement, syntax.Output):
        yield statement.name, statement.span
    for part in ("body", "then", "otherwise"):
        for inner in getattr(statement, part, ()):
            yield from _bound_by(inner)


# ---- binding
def _bind(cx: Context, statement: syntax.Bind) -> None:
    values = [expressions.evaluate(cx, value) for value in statement.values]
    if len(values) == 1 and len(statement.targets) > 1 and isinstance(values[0], tuple):
        values = list(values[0])
    if len(values) != len(statement.targets):
        count = f"{len(values)} value{'s' if len(values) != 1 else ''}"
        raise error(
            "A310",
            f"{len(statement.targets)} name{'s' if len(statement.targets) != 1 else ''} for {count}",
            statement.span,
        )
    for target, value in zip(statement.targets, values, strict=True):
        bind_name(cx, target.id, value, target.span)


def bind_name(cx: Context, name: str, value: Any, span: Span) -> None:
    """`name = value`; a layer gets weights of that name."""
    refuse_taken(cx.module, name, span)
    value = weights.share(value, name, cx.frame)
    if isinstance(value, Value) and value.graph is cx.frame.graph:
        cx.frame.graph.rename(value, name)
    cx.scope.bind(name, value, span)


def _check_start(init: Init, type_: TensorType, span: Span) -> None:
    """Refuse a weight that cannot start like this."""
    try:
        init.check({axis.name: axis.size for axis in type_})
    except OpError as failure:
        raise error(failure.code, str(failure), span, help=failure.help) from None


def _declare(cx: Context, statement: syntax.Declare) -> None:
    if cx.loop is not None:
        raise error(
            "A703",
            "a loop that makes weights needs a name for them",
            Label(statement.span, "makes a weight"),
            Label(cx.loop, "in this loop"),
            help="write `as NAME[i]` after the head of the loop",
        )
    type_ = signatures.declare(cx, statement.port.type, statement.word)
    init = expressions.evaluate(cx.inner(starting=True), statement.value) if statement.value is not None else None
    if isinstance(init, Poly) and statement.value is not None:
        text, place = statement.value.span.text, statement.value.span
        raise error("A307", f"a weight would start as a free size: `{text}`", place, help=SIZED)
    if is_number(init):
        init = as_init(init)
    if not isinstance(init, Init | None):
        raise error(
            "A303",
            f"a weight starts as a number or an initialisation, not as a {kind_of(init)}",
            statement.value.span if statement.value else statement.span,
        )
    if init is not None and statement.value is not None:
        _check_start(init, type_, statement.value.span)
    op = Parameter(type=type_, init=init, buffer=statement.word == "buffer")
    weights.check_fixed({statement.port.name: op.params()[""]}, statement.span)
    label = cx.frame.claim_name(statement.port.name, statement.span)
    (value,) = cx.frame.graph.add(op, span=statement.span, label=label, name=statement.port.name)
    cx.scope.define(statement.port.name, value, statement.port.span, "weight")


def _return(cx: Context, statement: syntax.Return) -> Returned:
    return Returned(
        tuple(expressions.evaluate(cx, value) for value in statement.values),
        tuple(value.span for value in statement.values),
    )


def _require(cx: Context, statement: syntax.Require) -> None:
    value = expressions.evaluate(cx, statement.condition)
    said = statement.message or f"`{statement.condition.span.text}` does not hold"
    if isinstance(value, Conditions):
        for condition in value.items:
            if not cx.session.facts.require(condition, statement.message or ""):
                raise error("A316", said, statement.condition.span)
    elif value is False:
        raise error("A316", said, Label(statement.condition.span, _values(cx, statement.condition)))
    elif value is not True:
        raise error("A303", f"`require` takes a condition, not a {kind_of(value)}", statement.condition.span)


def _values(cx: Context, condition: syntax.Expr) -> str:
    """The sizes and numbers that a failed condition mentions."""
    names = sorted(blocks.mentioned(condition))
    known = [f"{name} = {show(b.value)}" for name in names if (b := cx.scope.find(name)) and is_number(b.value)]
    return ", ".join(known)


# ---- control
def _if(cx: Context, statement: syntax.If) -> Returned | None:
    chosen = statement.then if expressions.truth(cx, statement.condition) else statement.otherwise
    return run(cx, chosen)


def _repeat(cx: Context, statement: syntax.Repeat) -> None:
    count = expressions.whole(cx, statement.count)
    if not isinstance(count, int) or count < 0:
        raise error(
            "A317",
            "`repeat` needs a count that is known and not negative, "
            f"and this is {count}{expressions.made_of(cx, statement.count)}",
            statement.count.span,
        )
    check_length(count, statement.count.span, MAX_LOOP)
    _loop(cx, statement, count, lambda inner, i: None)


def _for(cx: Context, statement: syntax.For) -> None:
    items = expressions.items(cx, statement.iterable)
    _loop(cx, statement, len(items), lambda inner, i: expressions.unpack(inner, statement.targets, items[i]))


def _loop(
    cx: Context, statement: syntax.Repeat | syntax.For, count: int, enter: Callable[[Context, int], None]
) -> None:
    """Run the body once per item. With a label, an iteration that makes weights is a graph of its own, called under
    `label.index`.
    """
    head = Span(statement.span.source, statement.span.start, statement.span.start + len(type(statement).__name__))
    label = statement.label
    if label is not None:
        cx.frame.claim_name(label.name, label.span)
    made = 0
    for i in range(count):
        inner = cx.inner(scope=Scope(cx.scope))
        inner.scope.assigned = {}
        enter(inner, i)
        if label is not None and label.index is not None:
            inner.scope.define(label.index, i, label.span, "loop variable")
        if label is None:
            _body(inner.inner(loop=cx.loop or head), statement)
        elif _iteration(cx, inner, statement, f"{label.name}.{i}", label.name):
            made += 1
        cx.scope.assigned.update(inner.scope.assigned)
    if label is not None and not made:
        del cx.frame.labels[label.name]


def _body(cx: Context, statement: syntax.Repeat | syntax.For) -> None:
    if (returned := run(cx, statement.body)) is not None:
        raise error(
            "A318", "`return` inside a loop", returned.spans[0], help="collect in a list, and return after the loop"
        )


def _iteration(cx: Context, inner: Context, statement: Any, label: str, name: str) -> bool:
    """One iteration in a graph of its own, run again in place if it made no weights; whether it made some."""
    saved, locals_before = _snapshot(cx.scope), dict(inner.scope.names)
    names: list[str] = []

    def body(here: Context, given: dict[str, Given]) -> Any:
        here.frame.wishes = called(inner.scope, blocks.mentioned(statement.body))
        _body(here, statement)
        changed = _exported(cx.scope, inner.scope, here.frame)
        names.extend(n for n, b in changed.items() for _ in _tensors(b.value, here.frame))
        names.extend(n for n, _ in here.frame.aside)
        return tuple(tensor for b in changed.values() for tensor in _tensors(b.value, here.frame))

    nested = blocks.nest(cx, inner.inner(loop=None), name, statement.span, {}, body)
    if nested.frame.empty:
        _restore(saved)
        inner.scope.names, inner.scope.assigned = locals_before, {}
        _body(inner, statement)
        return False
    graph = nested.frame.graph
    if not graph.outputs:
        raise error(
            "A712",
            f"the loop `{name}` makes weights, and nothing outside uses what it computes",
            statement.label.span,
            help="bind a name that is there before the loop: `x = x -> ...`",
        )
    graph.outputs = [(n, value) for n, (_, value) in zip(names, graph.outputs, strict=True)]
    graph.hypers.update(_visible_numbers(inner.scope, statement.label.index))
    values = iter(leaves(blocks.call(cx, nested, [], label, statement.span)))
    for variable, binding in _exported(cx.scope, inner.scope, nested.frame).items():
        binding.value = _replaced(binding.value, nested.frame, values)
        if isinstance(binding.value, Value):
            cx.frame.graph.rename(binding.value, variable)
    return True


def _visible_numbers(scope: Scope | None, index: str | None) -> dict[str, Any]:
    """The numbers in scope but the index of the loop, the innermost last."""
    chain = []
    while scope is not None:
        chain.append(scope.numbers())
        scope = scope.parent
    return {name: value for numbers in reversed(chain) for name, value in numbers.items() if name != index}


def called(scope: Scope | None, mentioned: set[str]) -> dict[Value, str]:
    """What the names that a body mentions call tensors, the innermost first."""
    found: dict[Value, str] = {}
    while scope is not None:
        for name, binding in scope.names.items():
            if isinstance(binding.value, Value) and name in mentioned:
                found.setdefault(binding.value, name)
        scope = scope.parent
    return found


def _exported(outer: Scope, inner: Scope, frame: Frame) -> dict[str, Binding]:
    """The outer names that now hold tensors of an iteration's graph."""
    changed = {name: binding for name, binding in inner.assigned.items() if outer.find(name) is binding}
    for name, binding in changed.items():
        if (
            isinstance(binding.value, Layer)
            and binding.value.weights is not None
            and binding.value.weights.home is frame
        ):
            raise error(
                "A710",
                f"the layer `{name}` is made inside a loop and would leave it",
                binding.span,
                help="make it before the loop, or use it inside only",
            )
    return {name: binding for name, binding in changed.items() if frame.holds(binding.value)}


def _tensors(value: Any, frame: Frame) -> list[Value]:
    """The tensors of an iteration's own graph in a value, in order."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Value) and leaf.graph is frame.graph]


def _replaced(value: Any, frame: Frame, outer: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_replaced(item, frame, outer) for item in value)
    return next(outer) if isinstance(value, Value) and value.graph is frame.graph else value


def _snapshot(scope: Scope | None) -> list[tuple[Binding, Any, Span, str]]:
    found = []
    while scope is not None:
        found += [(b, b.value, b.span, b.word) for b in scope.names.values()]
        scope = scope.parent
    return found


def _restore(saved: list[tuple[Binding, Any, Span, str]]) -> None:
    for binding, value, span, word in saved:
        binding.value, binding.span, binding.word = value, span, word


FORMS: dict[type, Callable[[Context, Any], Returned | None]] = {
    syntax.Bind: _bind,
    syntax.Declare: _declare,
    syntax.Return: _return,
    syntax.Require: _require,
    syntax.If: _if,
    syntax.Repeat: _repeat,
    syntax.For: _for,
    syntax.Loss: losses.collect,
    syntax.Yield: lambda cx, statement: scans.yields(cx, statement),
}
