"""Blocks: a call elaborates the body for the types at hand, into a graph of its own where the block has weights, else
in place.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from archlang import syntax
from archlang.diagnostics import Label, error
from archlang.elaborate import calls, signatures, statements, weights
from archlang.elaborate.arguments import read
from archlang.elaborate.context import Context
from archlang.elaborate.files import Module, refuse_taken
from archlang.elaborate.frame import Frame
from archlang.elaborate.hypers import check_kind
from archlang.elaborate.limits import MAX_DEPTH, check_network, too_deep
from archlang.elaborate.scope import Binding, Scope
from archlang.elaborate.values import BlockDef, Given, Layer, key, kind_of, leaves
from archlang.facts import Condition
from archlang.ir import Call, Foreign, Graph, Value
from archlang.primitive import Primitive
from archlang.primitives import CONSTRUCTS
from archlang.source import Span

TARGET = re.compile(r"[A-Za-z]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)  # of a foreign operation
Body = Callable[[Context, dict[str, Given]], Any]


@dataclass(frozen=True)
class Nested:
    """An elaborated body: its graph, the shape of its value, and the conditions that it met."""

    frame: Frame
    value: Any  # leaves are values of the graph
    conditions: dict[Condition, str]


# ---- blocks and chains
def apply_block(cx: Context, layer: Layer, inputs: dict[str, Given], span: Span) -> Any:
    """The value of a block for these inputs."""
    target = layer.target
    assert isinstance(target, BlockDef)
    if isinstance(target.syntax, syntax.Foreign):
        return _apply_foreign(cx, target.module, target.syntax, inputs, span)
    if len(cx.calls) >= MAX_DEPTH:
        raise too_deep(span)
    inside = cx.inner(module=target.module, calls=(*cx.calls, (target, span)), loop=None, scan=None)

    def body(here: Context, given: dict[str, Given]) -> Any:
        with here.blame():
            return _run(here.inner(scope=Scope()), target, layer.hypers, given, span)

    if layer.label is None and layer.weights is None and not makes_weights(cx, target):
        with cx.session.budget.inline(span, outermost=not cx.inlined):
            return body(inside.inner(loop=cx.loop, inlined=True), inputs)
    return _nest(cx, inside, layer, inputs, body, span, _memo_key(target, layer, inputs))


def apply_chain(cx: Context, layer: Layer, value: Any, span: Span) -> Any:
    """The value of a composition; one that has a name is a module of its own."""

    def body(here: Context, given: dict[str, Given]) -> Any:
        result = given["x"].value
        for stage in layer.stages:
            result = calls.pipe(here, result, stage, stage.span)
        return result

    if layer.label is None and layer.weights is None:
        return body(cx, {"x": Given(value, span)})
    if not isinstance(value, Value):
        raise error("A705", f"`->` takes a tensor on its left, and this is a {kind_of(value)}", span)
    return _nest(cx, cx.inner(loop=None), layer, {"x": Given(value, span)}, body, span, None)


def _run(cx: Context, target: BlockDef, hypers: dict[str, Given], inputs: dict[str, Given], span: Span) -> Any:
    """Bind the hyper-parameters and inputs of a block in a new scope and run its body."""
    block = target.syntax
    assert isinstance(block, syntax.Block)
    for hyper in block.hypers:
        _bind_hyper(cx, hyper, hypers, target.name, span)
    found = signatures.bind_inputs(cx, block.signature, inputs)
    for hyper in block.hypers:
        cx.scope.get(hyper.name)
    returned = statements.run(cx, block.body)
    own, numbers = cx.frame.graph.name == target.name, cx.scope.numbers()
    cx.frame.graph.hypers = {**cx.frame.graph.hypers, **numbers} if own else {**numbers, **cx.frame.graph.hypers}
    if returned is None:
        raise error("A314", f"`{block.name}` returns nothing", block.name_span, help="end it with `return ...`")
    signatures.check_results(cx, block.signature, returned.values, returned.spans, found)
    return returned.values if len(returned.values) > 1 else returned.values[0]


def _bind_hyper(cx: Context, hyper: syntax.Hyper, given: dict[str, Given], owner: str, span: Span) -> None:
    if (known := cx.scope.find(hyper.name)) is not None:
        raise error("A102", f"`{hyper.name}` is declared twice", hyper.span, Label(known.span, "first here"))
    refuse_taken(cx.module, hyper.name, hyper.span)
    if hyper.name in given:
        argument = given[hyper.name]
        value = check_kind(argument.value, hyper.kind, hyper.name, argument.span, argument.note)
        cx.scope.define(hyper.name, value, hyper.span, "hyper-parameter")
    elif hyper.default is not None:
        default = hyper.default
        cx.scope.names[hyper.name] = Binding(
            None, hyper.span, "hyper-parameter", lambda: hyper_default(cx, hyper, default)
        )
    elif hyper.kind is not None and hyper.kind.optional:
        cx.scope.define(hyper.name, None, hyper.span, "hyper-parameter")
    else:
        raise error("A301", f"`{owner}` needs `{hyper.name}`", span, Label(hyper.span, "declared here"))


def hyper_default(cx: Context, hyper: syntax.Hyper, default: syntax.Expr) -> Any:
    """The default of a hyper-parameter, which may mention input axes and other hyper-parameters."""
    given = read(cx, hyper.kind.name if hyper.kind else "value", default)
    return check_kind(given.value, hyper.kind, hyper.name, default.span, given.note)


def _apply_foreign(cx: Context, module: Module, declared: syntax.Foreign, inputs: dict[str, Given], span: Span) -> Any:
    here = cx.inner(scope=Scope(), module=module)
    found = signatures.bind_inputs(here, declared.signature, inputs)
    if declared.signature.results is None:
        raise error(
            "A405", "a foreign operation states its result", declared.span, help="write `-> [..]` after its inputs"
        )
    if declared.language != "python" or not TARGET.fullmatch(declared.target):
        wanted = 'foreign NAME from python "package.module:function"'
        raise error("A405", f"`{declared.target}` does not name a function", declared.span, help=f"write `{wanted}`")
    types = tuple(signatures.result_type(here, port.type, found) for port in declared.signature.results)
    ports = {port.name: signatures.order(port.type, found) for port in declared.signature.inputs if port.name in inputs}
    op = Foreign(symbol=declared.name, target=declared.target, ports=ports, types=types)
    values = calls.add(cx, op, [(name, given.value) for name, given in inputs.items()], span, {})
    return values if len(values) > 1 else values[0]


# ---- nesting
def _nest(
    cx: Context, inside: Context, layer: Layer, inputs: dict[str, Given], body: Body, span: Span, memo: Any
) -> Any:
    """Run a body in a graph of its own and call it under the layer's label; a body without weights runs in place
    instead.
    """
    nested = cx.session.memo.get(memo) if memo is not None else None
    if nested is None:
        name = layer.target.name if isinstance(layer.target, BlockDef) else layer.name
        nested = nest(cx, inside, name, span, inputs, body)
        if memo is not None and not nested.frame.captured and not nested.frame.lent:
            cx.session.memo[memo] = nested
    for condition, message in nested.conditions.items():
        cx.session.facts.require(condition, message)
    if nested.frame.empty:
        return body(inside.inner(loop=cx.loop, frame=cx.frame), inputs)
    _describe(nested.frame.graph, layer)
    shared = layer.weights is not None  # only then is it asked whether the weights are the same
    params = {path: param for path, param, _ in nested.frame.graph.weights()} if shared else {}
    label = weights.weights_label(cx, layer, params, span)
    ports = [(name, given.value) for name, given in inputs.items() if isinstance(given.value, Value)]
    return call(cx, nested, ports, label, span)


def nest(cx: Context, inside: Context, name: str, span: Span, inputs: dict[str, Given], body: Body) -> Nested:
    """Elaborate a body into a new graph. Its value may be a tensor or lists of tensors."""
    frame = Frame(Graph(name, span), cx.frame)
    before = set(cx.session.facts.conditions)
    given = {port: Given(_enter(frame, port, g.value, g.span), g.span) for port, g in inputs.items()}
    value = body(inside.inner(frame=frame, inlined=False), given)
    value = _leave(frame, value, span)
    frame.graph.outputs = [("", leaf) for leaf in leaves(value)] + frame.aside
    cx.frame.numbered += frame.numbered
    conditions = {c: message for c, message in cx.session.facts.conditions.items() if c not in before}
    return Nested(frame, value, conditions)


def _enter(frame: Frame, port: str, value: Any, span: Span) -> Any:
    return frame.graph.add_input(port, value.type, span) if isinstance(value, Value) else value


def _leave(frame: Frame, value: Any, span: Span) -> Any:
    """The value of a body as values of its own graph."""
    if isinstance(value, tuple):
        return tuple(_leave(frame, item, span) for item in value)
    if not isinstance(value, Value):
        raise error("A303", f"a block returns tensors, and this is a {kind_of(value)}", span)
    return frame.capture(value)


def call(cx: Context, nested: Nested, ports: list[tuple[str, Value]], label: str, span: Span) -> Any:
    """One node that calls a nested graph, and its value in the graph at hand."""
    captured = [(port, value) for value, port in nested.frame.captured.items()]
    op = Call(graph=nested.frame.graph, layers=tuple(nested.frame.lent.items()))
    cx.session.budget.node(span)
    cx.frame.size += nested.frame.size
    check_network(cx.frame.size, span)
    pairs = [(port, cx.frame.capture(value)) for port, value in [*ports, *captured]]
    values = iter(cx.frame.graph.add(op, pairs, facts=cx.session.facts, span=span, label=label))

    def rebuilt(shape: Any) -> Any:
        return tuple(rebuilt(item) for item in shape) if isinstance(shape, tuple) else next(values)

    result = rebuilt(nested.value)
    cx.frame.take(nested.frame, values)
    return result


def _describe(graph: Graph, layer: Layer) -> None:
    """The docstring of a block."""
    graph.doc = getattr(layer.target.syntax, "doc", None) or "" if isinstance(layer.target, BlockDef) else ""


def _memo_key(target: BlockDef, layer: Layer, inputs: dict[str, Given]) -> Any:
    """Equal for calls that elaborate to the same graph; None where it holds layers or tensors of its surroundings."""
    try:
        hypers = tuple((name, key(given.value)) for name, given in sorted(layer.hypers.items()))
        types = tuple(
            (name, g.value.type, g.value.type.lost) for name, g in sorted(inputs.items()) if isinstance(g.value, Value)
        )
        hash(hypers)
    except TypeError:
        return None
    return target, hypers, types


# ---- which blocks are modules
def makes_weights(cx: Context, target: BlockDef) -> bool:
    """Whether a block makes weights itself, not only through the layers it is given: then it adds its label to the
    path.
    """
    if isinstance(target.syntax, syntax.Foreign):
        return False
    if target not in cx.session.made:
        cx.session.made[target] = False  # for blocks that call themselves
        recipes = {
            hyper.name
            for hyper in target.syntax.hypers
            if hyper.kind and _base(hyper.kind).name in ("layer", "position")
        }
        cx.session.made[target] = any(_makes(cx, target, name, recipes) for name in mentioned(target.syntax.body))
    return cx.session.made[target]


def _base(kind: syntax.Kind) -> syntax.Kind:
    return _base(kind.item) if kind.item is not None else kind


def _makes(cx: Context, target: BlockDef, name: str, recipes: set[str]) -> bool:
    if name in ("param", "buffer"):
        return True
    if name in recipes:
        return False
    known = target.module.names.get(name)
    if known is not None:
        return makes_weights(cx, known)
    cls = CONSTRUCTS.get(name)
    return cls is not None and issubclass(cls, Primitive) and (cls.lowered or cls.params is not Primitive.params)


def mentioned(node: Any) -> set[str]:
    """All names in a piece of syntax, and `param` and `buffer` for declarations."""
    found: set[str] = set()
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tuple):
            stack.extend(item)
        elif isinstance(item, syntax.Syntax):
            if isinstance(item, syntax.Name):
                found.add(item.id)
            elif isinstance(item, syntax.Declare):
                found.add(item.word)
            if not isinstance(item, syntax.Type):
                stack.extend(getattr(item, name) for name in item.__match_args__)
    return found
