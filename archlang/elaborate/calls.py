"""Calls: arguments to layers, layers to tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from archlang import syntax
from archlang.diagnostics import ArchError, Label, error, suggest
from archlang.elaborate import blocks, expressions
from archlang.elaborate.arguments import NUMBERS, PER_NAME, bind, missing, slots
from archlang.elaborate.context import Context
from archlang.elaborate.frame import Frame
from archlang.elaborate.operators import BUILTINS, builtin
from archlang.elaborate.values import BlockDef, Given, Layer, Weights, is_number, kind_of, leaves, show
from archlang.ir import Value, WeightOf
from archlang.primitive import Construct, OpError, Param, Primitive
from archlang.primitives import CONSTRUCTS
from archlang.primitives.init import Init, Positions
from archlang.primitives.init import apply as apply_init
from archlang.shapes import TensorType, axis
from archlang.sizes import Poly
from archlang.source import Span

As = tuple[str, Span] | None  # the label of `as`


# ---- the call expression
def call(cx: Context, expr: syntax.Call, label: As = None) -> Any:
    """`f(...)`: a function of numbers, a layer, or its value where it has all its inputs."""
    name = expr.function.id if isinstance(expr.function, syntax.Name) else None
    if name in BUILTINS and cx.scope.find(name) is None and name not in cx.module.names:
        done, value = _compile_time(cx, name, expr)
        if done:
            return value
    target = expressions.lookup(cx, name, expr.function.span) if name else expressions.evaluate(cx, expr.function)
    if isinstance(target, BlockDef | type):
        return make(cx, target, expr.arguments, expr.span, label)
    if isinstance(target, Layer):
        return _more(cx, target.fresh(), expr, label)
    raise error("A108", f"a {kind_of(target)} cannot be called", expr.function.span)


def _compile_time(cx: Context, name: str, expr: syntax.Call) -> tuple[bool, Any]:
    """The value of a compile-time function, unless an argument is a tensor: then the operation of that name is meant."""
    if any(argument.name is not None for argument in expr.arguments) and name in CONSTRUCTS:
        return False, None
    values = []
    for argument in expr.arguments:
        if argument.name is not None:
            raise error("A302", f"`{name}` has no argument `{argument.name}`", argument.span)
        values.append(expressions.evaluate(cx, argument.value))
    if name in CONSTRUCTS and any(isinstance(value, Value) for value in values):
        return False, None
    if name == "sum" and len(values) == 1 and any(isinstance(leaf, Value) for leaf in leaves(values[0])):
        return True, _tensor_sum(cx, values[0], expr.span)
    if len(values) == 1 and isinstance(values[0], Init):
        return True, _start(name, values[0], expr.span)
    if not values and name in CONSTRUCTS:
        return False, None
    return True, builtin(name, values, expr.span)


def _tensor_sum(cx: Context, items: tuple[Any, ...], span: Span) -> Any:
    """The sum of a list that holds tensors."""
    total: Any = items[0]
    for item in items[1:]:
        sides = (("a", "left", total), ("b", "right", item))
        fields = {field: value for _, field, value in sides if is_number(value)}
        total = operation(
            cx, "add", [(port, value) for port, _, value in sides if isinstance(value, Value)], fields, span
        )
    return total


def _start(name: str, init: Init, span: Span) -> Init:
    try:
        return apply_init(name, init)
    except OpError as failure:
        raise error(failure.code, str(failure), span, help=failure.help) from None


def make(cx: Context, target: Any, arguments: Sequence[syntax.Argument], span: Span, label: As = None) -> Any:
    """A call of a block or construct: applied where all inputs are there, else a layer; a construct that is no layer is its value."""
    if cx.starting and target is CONSTRUCTS["index"]:
        target = Positions
    if isinstance(target, type) and not issubclass(target, Primitive):
        return construct(target, bind(cx, target, arguments).hypers, span)
    bound = bind(cx, target, arguments)
    layer = Layer(target, span, bound.hypers, bound.inputs, loop=cx.loop)
    if label is not None:
        layer = labelled(layer, *label)
    return apply(cx, layer, {}, span) if complete(layer) else layer


def _more(cx: Context, layer: Layer, expr: syntax.Call, label: As) -> Any:
    """More arguments for a layer: its tensors, or what its recipe left open."""
    if layer.target is None:
        values = [expressions.evaluate(cx, argument.value) for argument in expr.arguments]
        if len(values) != 1 or not isinstance(values[0], Value):
            raise error("A301", "a composition takes one tensor", expr.span)
        return pipe(cx, values[0], labelled(layer, *label) if label else layer, expr.span)
    bound = bind(cx, layer.target, expr.arguments, layer.inputs)
    if bound.hypers and layer.weights is not None:
        (name, given), *_ = bound.hypers.items()
        raise error("A707", f"`{layer.weights.name}` is one layer with weights: `{name}` cannot change", given.span)
    merged = replace(layer, hypers={**layer.hypers, **bound.hypers}, inputs=bound.inputs)
    if label is not None:
        merged = labelled(merged, *label)
    return apply(cx, merged, {}, expr.span) if complete(merged) else merged


def labelled(layer: Layer, label: str, span: Span) -> Layer:
    """The layer with the name that `as` gives its weights."""
    if layer.label is not None or (layer.weights is not None and layer.weights.instance is not None):
        raise error(
            "A708",
            f"the weights are already called `{layer.label or layer.name}`",
            span,
            help="a layer bound with `=` is shared wherever its name is used" if layer.weights else None,
        )
    if layer.weights is not None:
        layer.weights.name = label
    return replace(layer, label=label)


def complete(layer: Layer) -> bool:
    """Whether all inputs that it needs are there."""
    if layer.target is None or missing(layer.target, layer.inputs):
        return False
    return bool(layer.inputs) or not slots(layer.target)[1]


# ---- constructs
def construct(cls: type[Construct], hypers: dict[str, Given], span: Span) -> Any:
    """The construct with these hyper-parameters; what pydantic refuses is an error at the argument."""
    try:
        return cls(**{name: dict(given.value) if name in PER_NAME else given.value for name, given in hypers.items()})
    except ValidationError as failure:
        raise ArchError(
            *(d for item in failure.errors() for d in _refused(cls, dict(item), hypers, span).diagnostics)
        ) from None


def _refused(cls: type[Construct], item: dict[str, Any], hypers: dict[str, Given], span: Span) -> ArchError:
    field = str(item["loc"][0]) if item["loc"] else ""
    if item["type"] == "missing":
        return error("A301", f"`{cls.name}` needs `{field}`", span)
    place = hypers[field].span if field in hypers else span
    said = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "literal_error":
        return error("A303", f"`{field}` must be {item['ctx']['expected']}, and is {show(item['input'])}", place)
    if item["type"] != "value_error":
        said = f"must be {WORDS.get(item['type'], said)}, and is {show(item['input'])}"
    return error("A303", f"`{field}` {said}", place)


WORDS = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "tuple_type": "a list",
}


# ---- application
def pipe(cx: Context, value: Any, layer: Layer, span: Span) -> Any:
    """`value -> layer`: a tensor is given to the layer, two layers are composed."""
    if isinstance(value, Layer):
        before = value.stages if _plain_chain(value) else (value,)
        after = layer.stages if _plain_chain(layer) else (layer,)
        return Layer(None, span, stages=(*before, *after), loop=cx.loop)
    if layer.target is None:
        return blocks.apply_chain(cx, layer, value, span)
    given = {_free_port(layer, value, span): Given(value, span)}
    if lacks := missing(layer.target, {**layer.inputs, **given}):
        raise error("A301", f"`{layer.name}` also needs {', '.join(f'`{name}`' for name in lacks)}", layer.span)
    return apply(cx, layer, given, span)


def _free_port(layer: Layer, value: Any, span: Span) -> str:
    """The input that a pipe gives its value to: the first that the layer does not have."""
    taken = {*layer.inputs, *(port for port, field in NUMBERS.items() if field in layer.hypers)}
    port = next((port for port in slots(layer.target)[1] if port.strip("*?") not in taken), None)
    if port is None:
        raise error("A705", f"`{layer.name}` has all its inputs", span)
    if isinstance(value, tuple) and not port.startswith("*"):
        title = f"`->` gives one value, and these are {len(value)}"
        raise error("A705", title, span, help="bind them to names first: `a, b = ...`")
    if not isinstance(value, Value | tuple):
        raise error("A705", f"`->` takes a tensor or a layer on its left, and this is a {kind_of(value)}", span)
    return port.strip("*?")


def _plain_chain(layer: Layer) -> bool:
    return layer.target is None and layer.label is None and layer.weights is None


def apply(cx: Context, layer: Layer, more: dict[str, Given], span: Span) -> Any:
    """Give a layer its tensors."""
    inputs = {**layer.inputs, **more}
    if isinstance(layer.target, BlockDef):
        return blocks.apply_block(cx, layer, inputs, span)
    assert layer.target is not None
    hypers = dict(layer.hypers)
    if "position" in layer.target.kinds():
        inputs = _positioned(cx, layer.target, hypers, inputs, span)
    op = construct(layer.target, hypers, layer.span)
    pairs = [pair for name, given in inputs.items() for pair in _operands(name, given, layer.target)]
    values = add(cx, op, pairs, span, {name: given.span for name, given in {**hypers, **inputs}.items()})
    if params := cx.frame.graph.params(cx.frame.graph.producer(values[0])):
        cx.frame.graph.label(values[0], weights_label(cx, layer, params, span))
    return values if len(values) > 1 else values[0]


def _operands(name: str, given: Given, target: Any) -> list[tuple[str, Value]]:
    items = list(given.value) if isinstance(given.value, tuple) else [given.value]
    for item in items:
        if not isinstance(item, Value):
            raise error(
                "A303",
                f"`{name}` of `{target.name}` is a tensor, and this is a {kind_of(item)}: {show(item)}",
                given.span,
            )
    if f"*{name}" in target.inputs:
        return [(f"{name}.{i}", item) for i, item in enumerate(items)]
    if isinstance(given.value, tuple):
        raise error("A303", f"`{name}` of `{target.name}` is one tensor, and this is a list", given.span)
    return [(name, items[0])]


def _positioned(
    cx: Context, target: type[Primitive], hypers: dict[str, Given], inputs: dict[str, Given], span: Span
) -> dict[str, Given]:
    """Lower `position`: a layer that rotates is applied to q and k, one that makes a bias becomes an input, as a tensor does."""
    given = hypers.pop("position", None)
    if given is None or given.value is None:
        return inputs
    if isinstance(given.value, Value):
        return {**inputs, "bias": given}
    role = getattr(given.value.target, "role", None) if isinstance(given.value, Layer) else None
    if role == "rotate":
        return {
            name: Given(pipe(cx, g.value, given.value.fresh(), g.span), g.span) if name in ("q", "k") else g
            for name, g in inputs.items()
        }
    if role != "bias":
        raise error("A303", f"`position` takes a position or a tensor, not a {kind_of(given.value)}", given.span)
    known = {name: hypers[name] for name in given.value.target.kinds() if name in hypers}
    layer = given.value
    layer = Layer(
        layer.target, layer.span, {**known, **layer.hypers}, layer.inputs, (), layer.label, layer.weights, layer.loop
    )
    return {**inputs, "bias": Given(apply(cx, layer, {"q": inputs["q"], "k": inputs["k"]}, given.span), given.span)}


def operation(
    cx: Context,
    name: str,
    pairs: Sequence[tuple[str, Value]],
    fields: dict[str, Any],
    span: Span,
    places: Sequence[Span] = (),
) -> Any:
    """A primitive by its name in the registry, for the operators and subscripts of the language."""
    cls = CONSTRUCTS[name]
    assert issubclass(cls, Primitive)
    hypers = {field: Given(value, span) for field, value in fields.items()}
    op = construct(cls, hypers, span)
    spans = (
        {argument: place for (argument, _), place in zip(pairs, places, strict=False)}
        if len(pairs) == len(places)
        else {}
    )
    values = add(cx, op, pairs, span, spans)
    return values if len(values) > 1 else values[0]


def add(
    cx: Context, op: Primitive, pairs: Sequence[tuple[str, Value]], span: Span, places: dict[str, Span]
) -> tuple[Value, ...]:
    """Add a node; what the operation refuses is an error with the places of its arguments."""
    cx.session.budget.node(span)
    if cx.session.cuts:
        from archlang.elaborate.segments import honour

        pairs = honour(cx, op, pairs, span)
    try:
        return cx.frame.graph.add(
            op, [(argument, cx.frame.capture(value)) for argument, value in pairs], facts=cx.session.facts, span=span
        )
    except OpError as failure:
        raise explain(failure, op, pairs, span, places) from None


def explain(
    failure: OpError, op: Primitive, pairs: Sequence[tuple[str, Value]], span: Span, places: dict[str, Span]
) -> ArchError:
    """The diagnostic of a refused operation: the place to blame first, then where each tensor was made."""
    labels = [Label(places.get(failure.about or "", span))]
    for argument, value in pairs:
        place = value.graph.node(value.node).span
        if place.source.name == "<archlang>" or any(label.span == place for label in labels):
            continue
        labels.append(Label(place, _origin(failure, argument, value.type)))
    return error(failure.code, str(failure), *labels, help=failure.help)


def _origin(failure: OpError, argument: str, type_: TensorType) -> str:
    if failure.about and failure.about in type_:
        return f"{failure.about} = {type_.size(failure.about)} here"
    return f"`{argument.partition('.')[0]}` is {type_} here"


# ---- weights
def check_fixed(params: Mapping[str, Param], span: Span) -> None:
    """A weight exists before any input does, so its sizes are numbers."""
    for leaf, param in params.items():
        if free := [name for name, size in zip(param.names, param.shape, strict=True) if isinstance(size, Poly)]:
            title = f"the weight `{leaf}` would have the free size {param.shape[param.names.index(free[0])]}"
            raise error("A220", title, span, help="give the axis a size where the model declares its input")


def weights_label(cx: Context, layer: Layer, params: dict[str, Param], span: Span) -> str:
    """The label of a layer's weights in the graph at hand; a shared layer claims it once, where it was bound."""
    check_fixed(params, span)
    if layer.weights is None:
        return cx.frame.claim(layer.label or layer.name, layer)
    shared = layer.weights
    if shared.instance is None:
        shared.instance = shared.home.claim(shared.name, layer)
        shared.params = params
    elif dict(shared.params) != dict(params):
        raise error(
            "A704",
            f"`{shared.name}` is one layer, and its inputs here need other weights: {_shapes(params)}, not {_shapes(dict(shared.params))}",
            span,
            layer.span,
        )
    return cx.frame.reach(shared)


def _shapes(params: dict[str, Param]) -> str:
    return (
        ", ".join(f"{leaf or 'weight'} [{', '.join(map(str, param.shape))}]" for leaf, param in params.items())
        or "none"
    )


def weight(cx: Context, layer: Layer, leaf: str, span: Span) -> Value:
    """`embed.weight`: a weight of a layer that has been applied, as a tensor."""
    shared = layer.weights
    if shared is None or shared.instance is None:
        raise error(
            "A709",
            "the weights of a layer are there once it has a name and was applied",
            span,
            help="bind it with `=` and apply it first",
        )
    if leaf not in shared.params:
        raise error("A107", f"`{shared.name}` has no weight `{leaf}`", span, help=suggest(leaf, shared.params))
    param = shared.params[leaf]
    type_ = TensorType(
        tuple(axis(name, size) for name, size in zip(param.names, param.shape, strict=True)), param.dtype
    )
    (value,) = cx.frame.graph.add(WeightOf(leaf=leaf, type=type_), span=span, label=cx.frame.reach(shared))
    return value


def share(value: Any, name: str, frame: Frame) -> Any:
    """What `name = layer` binds: the layer with weights of that name, shared wherever the name is used."""
    if isinstance(value, Layer) and value.weights is None:
        return Layer(
            value.target,
            value.span,
            value.hypers,
            value.inputs,
            value.stages,
            value.label,
            Weights(value.label or name, frame),
            value.loop,
        )
    return value
