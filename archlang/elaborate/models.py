"""Models: settings of a variant, and the graph that they make."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite
from typing import Any

from archlang import syntax
from archlang.diagnostics import ArchError, Collector, Diagnostic, Label, error, suggest
from archlang.elaborate import blocks, calls, exits, expressions, losses, signatures, statements
from archlang.elaborate.arguments import read
from archlang.elaborate.context import Context, Session
from archlang.elaborate.files import Module, refuse_taken
from archlang.elaborate.frame import Frame
from archlang.elaborate.hypers import check_kind
from archlang.elaborate.limits import check_ports
from archlang.elaborate.scope import Binding, Scope
from archlang.elaborate.values import Given, Layer, kind_of, show
from archlang.facts import Condition
from archlang.ir import Arrange, Graph, Value
from archlang.parser import parse_expression
from archlang.source import Source, Span


@dataclass(frozen=True)
class Elaborated:
    """A model as a graph, with what its inputs must meet at run time."""

    module: Module
    model: syntax.Model
    variant: str | None
    graph: Graph
    conditions: dict[Condition, str]
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[Diagnostic, ...] = ()


def elaborate(
    module: Module, model: syntax.Model, variant: str | None = None, settings: Mapping[str, Any] | None = None
) -> Elaborated:
    """The graph of a model. `settings` override those of the variant; text values are expressions of the language.

    Raises `ArchError` with every mistake that was found.
    """
    session = Session(Collector())
    frame = Frame(Graph(model.name, model.span))
    frame.graph.doc = model.doc or module.doc or ""
    cx = Context(session, module, Scope(), frame)
    with session.collector.catch():
        for hyper, given in _hypers(cx, model, variant, settings or {}):
            _define(cx, hyper, given)
        for hyper in model.hypers:
            cx.scope.get(hyper.name)
        statements.run(cx, model.body)
        losses.gather(frame)
        exits.join(cx)
    if not session.collector.errors and not frame.graph.outputs:
        session.collector.add(
            Diagnostic(
                "A501",
                f"the model `{model.name}` has no output",
                (Label(model.name_span),),
                "end it with `output NAME = ...`",
            )
        )
    session.collector.check()
    values = {hyper.name: cx.scope.names[hyper.name].value for hyper in model.hypers}
    return Elaborated(module, model, variant, frame.graph, session.facts.settle(), values, tuple(_warnings(frame)))


def _warnings(frame: Frame) -> list[Diagnostic]:
    return [
        Diagnostic(
            "A711",
            f"a second unnamed layer is called `{label}`",
            (Label(span),),
            "name it with `as`: numbers move when lines do",
            "warning",
        )
        for label, span in dict.fromkeys(frame.numbered)
    ]


# ---- settings
def variants(model: syntax.Model) -> dict[str, syntax.Variant]:
    """The variants of a model by name, in order."""
    return {item.name: item for item in model.body if isinstance(item, syntax.Variant)}


def _hypers(
    cx: Context, model: syntax.Model, variant: str | None, settings: Mapping[str, Any]
) -> list[tuple[syntax.Hyper, Given | None]]:
    known = {hyper.name: hyper for hyper in model.hypers}
    given: dict[str, Given] = {}
    for setting in _settings(model, variant):
        if setting.name not in known:
            raise error(
                "A502",
                f"`{model.name}` has no hyper-parameter `{setting.name}`",
                setting.span,
                help=suggest(setting.name, known),
            )
        given[setting.name] = Given(setting.value, setting.value.span)
    for name, value in settings.items():
        if name not in known:
            hint = suggest(name, known) or f"it has {', '.join(known) or 'none'}"
            raise error("A502", f"`{model.name}` has no hyper-parameter `{name}`", model.name_span, help=hint)
        given[name] = outside(name, value)
    return [(hyper, given.get(hyper.name)) for hyper in model.hypers]


def _settings(model: syntax.Model, variant: str | None) -> list[syntax.Setting]:
    """The settings of a variant after those of what it starts from."""
    if variant is None:
        return []
    known = variants(model)
    chain: list[syntax.Variant] = []
    name: str | None = variant
    place = model.name_span
    while name is not None:
        if name not in known:
            raise error(
                "A503",
                f"`{model.name}` has no variant `{name}`",
                place,
                help=suggest(name, known) or f"it has {', '.join(known) or 'none'}",
            )
        if known[name] in chain:
            raise _circle(known, chain[chain.index(known[name]) :])
        chain.append(known[name])
        place, name = known[name].span, known[name].base
    return [setting for item in reversed(chain) for setting in item.settings]


def _circle(known: Mapping[str, syntax.Variant], circle: list[syntax.Variant]) -> ArchError:
    """The same words whichever variant of the circle was asked for."""
    first = min(circle, key=list(known.values()).index)
    others = [Label(item.span, "in the circle") for item in circle if item is not first]
    return error("A504", f"variant `{first.name}` starts from itself", first.span, *others)


def outside(name: str, value: Any) -> Given:
    """A setting from outside the file: a Python value, or the text of an expression."""
    if isinstance(value, syntax.Expr):
        return Given(value, value.span)
    if isinstance(value, Text):
        expr = parse_expression(Source(f"--set {name}", value))
        return Given(expr, expr.span)
    source = Source(f"setting {name}", str(value))
    return Given(_from_python(name, value), Span(source, 0, len(source.text)))


class Text(str):
    """The text of an expression of the language (`--set depths=[2,2]`), as opposed to a string value."""


def _from_python(name: str, value: Any) -> Any:
    if isinstance(value, bool | int | str | Fraction) or value is None:
        return value
    if isinstance(value, float):
        if not isfinite(value):
            raise error("A306", f"the setting `{name}` is not a finite number: {value}")
        exact = Fraction(str(value))
        return int(exact) if exact.denominator == 1 else exact
    if isinstance(value, list | tuple):
        return tuple(_from_python(name, item) for item in value)
    raise error(
        "A505", f"the setting `{name}` is a {type(value).__name__}, and must be a number, string, truth value or list"
    )


def _define(cx: Context, hyper: syntax.Hyper, given: Given | None) -> None:
    if (known := cx.scope.names.get(hyper.name)) is not None:
        raise error("A102", f"`{hyper.name}` is declared twice", hyper.span, Label(known.span, "first here"))
    refuse_taken(cx.module, hyper.name, hyper.span)
    if given is None:
        if hyper.default is None and not (hyper.kind and hyper.kind.optional):
            raise error(
                "A301",
                f"the model needs `{hyper.name}`",
                hyper.span,
                help=f"give it a default, or set it: `--set {hyper.name}=...`",
            )
        default = hyper.default
        make = (lambda: blocks.hyper_default(cx, hyper, default)) if default is not None else None
        cx.scope.names[hyper.name] = Binding(None, hyper.span, "hyper-parameter", make)
        return
    if isinstance(given.value, syntax.Expr):
        given = read(cx, hyper.kind.name if hyper.kind else "value", given.value)
    value = check_kind(given.value, hyper.kind, hyper.name, given.span, given.note)
    if hyper.kind is None and hyper.default is not None:
        like = expressions.evaluate(cx, hyper.default)
        if like is not None and kind_of(like) != kind_of(value):
            title = f"`{hyper.name}` is a {kind_of(like)}, and this is a {kind_of(value)}: {show(value)}"
            raise error("A303", title, given.span, Label(hyper.span, "declared here"))
    cx.scope.define(hyper.name, value, hyper.span, "hyper-parameter")


# ---- statements of a model
def _input(cx: Context, statement: syntax.Input) -> None:
    port = statement.port
    if port.type.optional:
        raise error(
            "A506",
            "an input of a model is always there",
            port.span,
            help="make two models, or give the block an optional input",
        )
    if (known := cx.scope.find(port.name)) is not None:
        raise error(
            "A102", f"`{port.name}` is defined twice", Label(port.span), Label(known.span, f"{known.word} here")
        )
    refuse_taken(cx.module, port.name, port.span)
    check_ports(len(cx.frame.graph.inputs) + 1, "input", port.span)
    type_ = signatures.declare(cx, port.type, "input")
    value = cx.frame.graph.add_input(port.name, type_, port.span)
    cx.scope.define(port.name, value, port.span, "input")
    if type_.dtype == "segments":
        from archlang.elaborate.segments import cut

        cut(cx, value)


def _output(cx: Context, statement: syntax.Output) -> None:
    value = expressions.evaluate(cx, statement.value)
    if not isinstance(value, Value):
        help = f"apply it: `x -> {statement.value.span.text}`" if isinstance(value, Layer) else None
        raise error("A303", f"an output is a tensor, and this is a {kind_of(value)}", statement.value.span, help=help)
    if statement.type is not None:
        signatures.match(
            cx, statement.type, value.type, statement.value.span, f"`{statement.name}`", signatures.Match()
        )
        value = _arranged(cx, value, statement.type, statement.span)
    value = cx.frame.capture(value)
    check_ports(len(cx.frame.graph.outputs) + 1, "output", statement.span)
    cx.frame.graph.outputs.append((statement.name, value))
    if cx.scope.find(statement.name) is None:
        statements.bind_name(cx, statement.name, value, statement.span)


def _arranged(cx: Context, value: Value, declared: syntax.Type, span: Span) -> Value:
    """The value with its axes in the order that the caller sees."""
    order = tuple(a.name for a in declared.axes if isinstance(a, syntax.Axis))
    if len(order) != len(value.type.names) or order == value.type.names:
        return value
    (arranged,) = calls.add(cx, Arrange(order=order), [("x", value)], span, {})
    return arranged


def _nothing(cx: Context, statement: Any) -> None:
    """Facts about the model, read elsewhere: variants, expectations, checkpoint maps."""


statements.FORMS.update(
    {
        syntax.Input: _input,
        syntax.Output: _output,
        syntax.Exit: exits.collect,
        syntax.Variant: _nothing,
        syntax.Expect: _nothing,
        syntax.Checkpoint: _nothing,
    }
)
