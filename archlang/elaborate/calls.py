"""Calls: arguments to layers, layers to tensors."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from archlang import syntax
from archlang.diagnostics import ArchError, Label, error, suggest
from archlang.elaborate import blocks, expressions
from archlang.elaborate.context import Context
from archlang.elaborate.frame import Frame
from archlang.elaborate.operators import BUILTINS, builtin
from archlang.elaborate.values import AxisName, BlockDef, Given, Layer, Weights, is_number, kind_of, leaves, show
from archlang.ir import Value, WeightOf
from archlang.primitive import Construct, OpError, Param, Primitive
from archlang.primitives import CONSTRUCTS
from archlang.primitives.init import Init
from archlang.primitives.init import apply as apply_init
from archlang.shapes import TensorType, axis
from archlang.source import Span

As = tuple[str, Span] | None  # the label of `as`
PER_NAME = (
    "sizes",
    "names",
)  # fields that take the keywords that name axes: `rearrange(..., p = 7)`, `rename(x, c = value)`
NUMBERS = {"a": "left", "b": "right"}  # inputs of operators that may be numbers, and the fields that hold these


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
        return True, apply_init(name, values[0])
    if not values and name in CONSTRUCTS:
        return False, None
    return True, builtin(name, values, expr.span)


def _tensor_sum(cx: Context, items: tuple[Any, ...], span: Span) -> Any:
    """The sum of a list that holds tensors."""
    total: Any = items[0]
    for item in items[1:]:
        sides = (("a", "left", total), ("b", "right", item))
        fields = {field: value for _, field, value in sides if is_number(value)}
        total = operation(cx, "add", [(port, value) for port, _, value in sides if isinstance(value, Value)], fields, span)
    return total


def make(cx: Context, target: Any, arguments: Sequence[syntax.Argument], span: Span, label: As = None) -> Any:
    """A call of a block or construct: applied where all inputs are there, else a layer; a construct that is no layer is its value."""
    if isinstance(target, type) and not issubclass(target, Primitive):
        hypers, _ = bind(cx, target, arguments, span)
        return construct(target, hypers, span)
    hypers, inputs = bind(cx, target, arguments, span)
    layer = Layer(target, span, hypers, inputs, loop=cx.loop)
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
    hypers, inputs = bind(cx, layer.target, expr.arguments, expr.span, frozenset(layer.inputs))
    if hypers and layer.weights is not None:
        (name, given), *_ = hypers.items()
        raise error("A707", f"`{layer.weights.name}` is one layer with weights: `{name}` cannot change", given.span)
    merged = Layer(
        layer.target,
        layer.span,
        {**layer.hypers, **hypers},
        {**layer.inputs, **inputs},
        (),
        layer.label,
        layer.weights,
        layer.loop,
    )
    if label is not None:
        merged = labelled(merged, *label)
    return apply(cx, merged, {}, expr.span) if complete(merged) else merged


def labelled(layer: Layer, label: str, span: Span) -> Layer:
    """The layer with the name that `as` gives its weights."""
    if layer.weights is not None:
        raise error(
            "A708",
            f"the weights of `{layer.weights.name}` have that name already",
            span,
            help="a layer bound with `=` is shared wherever its name is used",
        )
    if layer.label is not None:
        raise error("A708", f"the weights are already called `{layer.label}`", span)
    return Layer(layer.target, layer.span, layer.hypers, layer.inputs, layer.stages, label, None, layer.loop)


# ---- arguments
def slots(target: Any) -> tuple[dict[str, str], list[str]]:
    """What a target takes: hyper-parameters with how each is read, and inputs as `x`, `x?`, `*xs`."""
    if isinstance(target, BlockDef):
        signature = target.syntax.signature
        hypers = getattr(target.syntax, "hypers", ())
        ports = [port.name + ("?" if port.type.optional else "") for port in signature.inputs]
        return {hyper.name: hyper.kind.name if hyper.kind else "value" for hyper in hypers}, ports
    kinds = {name: "dtype" if name == "dtype" else word for name, word in target.kinds().items()}
    return kinds, list(target.inputs) if issubclass(target, Primitive) else []


def complete(layer: Layer) -> bool:
    """Whether all inputs that it needs are there."""
    if layer.target is None:
        return False
    ports = slots(layer.target)[1]
    needed = [port.strip("*") for port in ports if not port.endswith("?")]
    return all(port in layer.inputs for port in needed) and (bool(layer.inputs) or not ports)


def bind(
    cx: Context, target: Any, arguments: Sequence[syntax.Argument], span: Span, have: frozenset[str] = frozenset()
) -> tuple[dict[str, Given], dict[str, Given]]:
    """Sort arguments into hyper-parameters and inputs; positional ones are all the one or all the other, told apart by being tensors."""
    kinds, ports = slots(target)
    inputs: dict[str, Given] = {}
    hypers: dict[str, Given] = {}
    places = [argument for argument in arguments if argument.name is None]
    names = [name for name in kinds if name not in PER_NAME]
    values = [
        read(cx, kinds[names[i]] if i < len(names) else "value", argument.value) for i, argument in enumerate(places)
    ]
    if target.name == "index" and len(places) == 1:
        arguments = [
            *arguments,
            syntax.Argument(places[0].span, "size", places[0].value),
        ]  # `index(n)` is `index(n = n)`
    if any(isinstance(leaf, Value) for value in values for leaf in leaves(value)):
        _positional_inputs(
            target, ports, [p for p in ports if p.strip("*?") not in have], places, values, inputs, hypers
        )
    else:
        if len(places) > len(names):
            raise error(
                "A301",
                f"`{target.name}` takes {_count(len(names), 'positional argument')}, not {len(places)}",
                places[len(names)].span,
            )
        hypers.update(
            {name: Given(value, place.span) for name, value, place in zip(names, values, places, strict=False)}
        )
    for argument in arguments:
        if argument.name is not None:
            _keyword(cx, target, kinds, ports, argument, inputs, hypers)
    return hypers, inputs


def _count(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _positional_inputs(
    target: Any,
    ports: list[str],
    free: list[str],
    places: Sequence[syntax.Argument],
    values: list[Any],
    inputs: dict[str, Given],
    hypers: dict[str, Given],
) -> None:
    if free and free[0].startswith("*"):
        items = values[0] if len(values) == 1 and isinstance(values[0], tuple) else tuple(values)
        inputs[free[0][1:]] = Given(items, places[0].span.to(places[-1].span))
        return
    if len(values) > len(free):
        raise error(
            "A301", f"`{target.name}` takes {_count(len(ports), 'input')}, and this is one more", places[len(free)].span
        )
    kinds = slots(target)[0]
    for port, place, value in zip(free, places, values, strict=False):
        name = port.strip("?")
        if is_number(value) and NUMBERS.get(name) in kinds:
            hypers[NUMBERS[name]] = Given(value, place.span)
        elif value is None and port.endswith("?"):
            continue
        elif not isinstance(value, Value):
            raise error(
                "A305", "positional arguments are all inputs or all hyper-parameters", Label(place.span, f"a {kind_of(value)}"),
                help=f"give it by name: `{name} = ...`" if isinstance(target, BlockDef) else "give hyper-parameters by name",
            )  # fmt: skip
        else:
            inputs[name] = Given(value, place.span)


def _keyword(
    cx: Context,
    target: Any,
    kinds: dict[str, str],
    ports: list[str],
    argument: syntax.Argument,
    inputs: dict[str, Given],
    hypers: dict[str, Given],
) -> None:
    name = argument.name
    assert name is not None
    if name in inputs or name in hypers:
        raise error("A313", f"`{name}` is given twice", argument.span)
    bare = [port.strip("*?") for port in ports]
    if name not in kinds and name not in bare:
        _extra(cx, target, kinds, bare, argument, inputs, hypers)
        return
    value = read(cx, kinds.get(name, "value"), argument.value)
    if name in bare and (name not in kinds or any(isinstance(leaf, Value) for leaf in leaves(value))):
        if is_number(value) and NUMBERS.get(name) in kinds:
            hypers[NUMBERS[name]] = Given(value, argument.value.span)
        elif value is not None:
            inputs[name] = Given(value, argument.value.span)
    else:
        hypers[name] = Given(value, argument.value.span)


def _extra(
    cx: Context,
    target: Any,
    kinds: dict[str, str],
    ports: list[str],
    argument: syntax.Argument,
    inputs: dict[str, Given],
    hypers: dict[str, Given],
) -> None:
    """A keyword that names an axis: `rearrange(..., p = 7)`, `expand(x, n = 1)`, `rename(x, c = value)`, `scatter(x, n = index)`."""
    name = argument.name
    assert name is not None
    place = argument.value.span
    value: Any
    if "sizes" in kinds:
        field, value = "sizes", expressions.whole(cx, argument.value)
    elif "names" in kinds:
        field, value = "names", expressions.axes(cx, argument.value)[0]
    elif target.name == "index" and not hypers:
        hypers.update(axis=Given((name,), argument.span), size=Given(expressions.whole(cx, argument.value), place))
        return
    elif "axis" in kinds and "index" in ports and "axis" not in hypers:
        hypers["axis"] = Given(name, argument.span)
        inputs["index"] = Given(expressions.evaluate(cx, argument.value), place)
        return
    else:
        known = [*(kind for kind in kinds), *ports]
        raise error(
            "A302",
            f"`{target.name}` has no argument `{name}`",
            argument.span,
            help=suggest(name, known) or f"it takes {', '.join(known)}",
        )
    before = hypers[field].value if field in hypers else ()
    hypers[field] = Given((*before, (name, value)), place)


def read(cx: Context, word: str, expr: syntax.Expr) -> Any:
    """An argument, read as what takes it wants it."""
    if word in ("axes", "axis"):
        if not expressions.names_axes(cx, expr):
            return expressions.evaluate(cx, expr)
        names = expressions.axes(cx, expr)
        return names if word == "axes" else AxisName(names[0])
    if word == "units":
        return expressions.units(cx, expr)
    if word == "dtype":
        return expressions.dtype(cx, expr)
    if word == "word" and isinstance(expr, syntax.Name) and cx.scope.find(expr.id) is None:
        return expr.id
    return expressions.evaluate(cx, expr)


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
    ports = slots(layer.target)[1]
    port = next((port for port in ports if port.strip("*?") not in layer.inputs), None)
    if port is None:
        raise error("A705", f"`{layer.name}` has all its inputs", span)
    if isinstance(value, tuple) and not port.startswith("*"):
        raise error(
            "A705",
            f"`->` gives one value, and these are {len(value)}",
            span,
            help="bind them to names first: `a, b = ...`",
        )
    if not isinstance(value, Value | tuple):
        raise error("A705", f"`->` takes a tensor or a layer on its left, and this is a {kind_of(value)}", span)
    given = {port.strip("*?"): Given(value, span)}
    if not complete(Layer(layer.target, layer.span, inputs={**layer.inputs, **given})):
        missing = [p for p in ports if not p.endswith("?") and p.strip("*") not in {**layer.inputs, **given}]
        raise error("A301", f"`{layer.name}` also needs {', '.join(f'`{name}`' for name in missing)}", layer.span)
    return apply(cx, layer, given, span)


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
def weights_label(cx: Context, layer: Layer, params: dict[str, Param], span: Span) -> str:
    """The label of a layer's weights in the graph at hand; a shared layer claims it once, where it was bound."""
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
