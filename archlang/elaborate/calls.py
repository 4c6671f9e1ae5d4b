"""Calls: arguments to layers, layers to tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from archlang import syntax
from archlang.diagnostics import ArchError, Label, error
from archlang.elaborate import blocks, expressions, mixtures, orders, weights
from archlang.elaborate.arguments import NUMBERS, PER_NAME, bind, missing, slots
from archlang.elaborate.context import Context
from archlang.elaborate.limits import MAX_LAYER, MAX_SIZE, check_countable
from archlang.elaborate.operators import BUILTINS, builtin
from archlang.elaborate.origins import explain
from archlang.elaborate.values import AxisName, BlockDef, Given, Layer, is_number, kind_of, leaves, show
from archlang.ir import Value
from archlang.primitive import Construct, OpError, Primitive
from archlang.primitives import CONSTRUCTS
from archlang.primitives.init import Init, Positions
from archlang.primitives.init import apply as apply_init
from archlang.shapes import AXIS_WORDS, TensorType
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
        if value is not None:
            expr = replace(expr, arguments=value)
    target = expressions.lookup(cx, name, expr.function.span) if name else expressions.evaluate(cx, expr.function)
    if isinstance(target, BlockDef | type):
        return make(cx, target, expr.arguments, expr.span, label)
    if isinstance(target, Layer):
        return _more(cx, target.fresh(), expr, label)
    raise error("A108", f"`{expr.function.span.text}` is a {kind_of(target)} and cannot be called", expr.function.span)


def _compile_time(cx: Context, name: str, expr: syntax.Call) -> tuple[bool, Any]:
    """The value of a compile-time function; of a tensor, the operation of that name is meant, and these are its
    arguments, evaluated once.
    """
    if any(argument.name is not None for argument in expr.arguments) and name in CONSTRUCTS:
        return False, None
    values = []
    for argument in expr.arguments:
        if argument.name is not None:
            raise error("A302", f"`{name}` has no argument `{argument.name}`", argument.span)
        values.append(expressions.evaluate(cx, argument.value))
    if name in CONSTRUCTS and any(isinstance(value, Value) for value in values):
        pairs = zip(expr.arguments, values, strict=True)
        return False, tuple(replace(part, value=expressions.Known(part.value.span, value)) for part, value in pairs)
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
    """A call of a block or construct: applied where all inputs are there, else a layer; a construct that is no layer is
    its value.
    """
    if cx.starting and target is CONSTRUCTS["index"]:
        target = Positions
    if isinstance(target, type) and issubclass(target, Construct) and not issubclass(target, Primitive):
        return construct(target, bind(cx, target, arguments).hypers, span)
    bound = bind(cx, target, arguments)
    layer = checked(Layer(target, span, bound.hypers, bound.inputs, loop=cx.loop))
    if label is not None:
        layer = labelled(layer, *label)
    return apply(cx, layer, {}, span) if complete(layer) else layer


def _more(cx: Context, layer: Layer, expr: syntax.Call, label: As) -> Any:
    """More arguments for a layer: its tensors, or what its recipe left open."""
    label = None if shared_from_outside(cx, layer, expr.function) else label
    if layer.target is None:
        values = [expressions.evaluate(cx, argument.value) for argument in expr.arguments]
        if len(values) != 1 or not isinstance(values[0], Value):
            raise error("A301", "a composition takes one tensor", expr.span)
        return pipe(cx, values[0], labelled(layer, *label) if label else layer, expr.span)
    bound = bind(cx, layer.target, expr.arguments, layer.inputs)
    if bound.hypers and layer.weights is not None:
        (name, given), *_ = bound.hypers.items()
        title = f"`{layer.weights.name}` is one layer with weights: `{name}` cannot change"
        raise error("A707", title, given.span, Label(layer.span, "made here"))
    merged = checked(replace(layer, hypers={**layer.hypers, **bound.hypers}, inputs=bound.inputs))
    if label is not None:
        merged = labelled(merged, *label)
    return apply(cx, merged, {}, expr.span) if complete(merged) else merged


def shared_from_outside(cx: Context, layer: Layer, expr: syntax.Expr) -> bool:
    """Whether a block was given a layer that is shared by name: its weights keep that name, whatever the block says."""
    binding = cx.scope.find(expr.id) if isinstance(expr, syntax.Name) else None
    return layer.weights is not None and binding is not None and binding.word == "hyper-parameter"


def checked(layer: Layer) -> Layer:
    """The layer, unless it is made of too many others."""
    if layer.size > MAX_LAYER:
        raise error("A813", f"a layer made of more than {MAX_LAYER:,} others", layer.span)
    return layer


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
    for name, given in hypers.items():
        check_countable(name, given.value, given.span)
    try:
        return cls(**{name: _pairs(given.value) if name in PER_NAME else given.value for name, given in hypers.items()})
    except ValidationError as failure:
        raise ArchError(
            *(d for item in failure.errors() for d in _refused(cls, dict(item), hypers, span).diagnostics)
        ) from None


def _pairs(value: Any) -> Any:
    """Keywords that name axes as what a field for them takes."""
    return dict(value) if isinstance(value, tuple) and all(isinstance(item, tuple) for item in value) else value


def _refused(cls: type[Construct], item: dict[str, Any], hypers: dict[str, Given], span: Span) -> ArchError:
    field = str(item["loc"][0]) if item["loc"] else ""
    if item["type"] == "missing":
        over = cls.kinds().get(field) == "axes"
        help = f"say over which axes: `{field} = c`, `{field} = [h, w]`, `{field} = space`" if over else None
        return error("A301", f"`{cls.name}` needs `{field}`", span, help=help)
    given = hypers.get(field, Given(None, span))
    place, value = given.span, given.value
    said = str(item["msg"]).removeprefix("Value error, ")
    if said.startswith("must be a whole number") and is_number(value):
        title = f"`{place.text}` is {show(value)}{given.note}, and `{field}` must be a whole number"
        return error("A207", title, place)
    if ", and is " in said and isinstance(value, Value | Layer | tuple | AxisName):
        said = f"{said.partition(', and is ')[0]}, and is a {kind_of(value)}: {show(value)}"
    if item["type"] == "literal_error":
        allowed = item["ctx"]["expected"].replace("'", "`")
        return error("A303", f"`{field}` must be {allowed}, and is {show(item['input'])}", place)
    if cls.kinds().get(field) in ("axes", "names") and not isinstance(value, str | tuple):
        help = f"`{LARGER[cls.name]}(a, b)` compares two values" if cls.name in LARGER else None
        if help is None and isinstance(value, Value) and place.text.isidentifier():
            help = f"`{place.text}` is a tensor here: give one of the two another name"
        wanted = "the name of an axis" if item["type"] == "string_type" else "names of axes"
        return error("A303", f"`{field}` must be {wanted}, and is {show(item['input'])}", place, help=help)
    if item["type"] == "model_type":
        word = item["ctx"]["class_name"].lower()
        said = f"must be {'an' if word[0] in 'aeiou' else 'a'} {word}, and is {show(item['input'])}"
    elif item["type"] != "value_error":
        said = f"must be {WORDS.get(item['type'], said)}, and is {show(item['input'])}"
    return error("A303", f"`{field}` {said}", place)


LARGER = {"max": "maximum", "min": "minimum"}  # over axes, and of two
WORDS = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "tuple_type": "a list",
    "is_instance_of": "names of axes with values: `[h = 2, w = 2]`",
}


# ---- application
def pipe(cx: Context, value: Any, layer: Layer, span: Span, left: Span | None = None) -> Any:
    """`value -> layer`: a tensor is given to the layer, two layers are composed. `left` is where the value stands."""
    if isinstance(value, Layer):
        before = value.stages if _plain_chain(value) else (value,)
        after = layer.stages if _plain_chain(layer) else (layer,)
        return checked(Layer(None, span, stages=(*before, *after), loop=cx.loop))
    if layer.target is None:
        return blocks.apply_chain(cx, layer, value, span)
    given = {_free_port(layer, value, left or span): Given(value, span)}
    if lacks := missing(layer.target, {**layer.inputs, **given}):
        raise error("A301", f"`{layer.name}` also needs {', '.join(f'`{name}`' for name in lacks)}", layer.span)
    return apply(cx, layer, given, span)


def _free_port(layer: Layer, value: Any, span: Span) -> str:
    """The input that a pipe gives its value to: the first that the layer does not have."""
    taken = {*layer.inputs, *(port for port, field in NUMBERS.items() if field in layer.hypers)}
    port = next((port for port in slots(layer.target)[1] if port.strip("*?") not in taken), None)
    if port is None:
        raise error("A705", f"`{layer.name}` has all its inputs", layer.span)
    if isinstance(value, tuple) and not port.startswith("*"):
        title = f"`->` gives one value, and these are {len(value)}"
        help = "give them names, `a, b = ...`, or make one of them: `concat([...], on = c)`"
        raise error("A705", title, span, help=help)
    if not isinstance(value, Value | tuple):
        raise error("A705", f"`->` takes a tensor or a layer on its left, and this is a {kind_of(value)}", span)
    return port.strip("*?")


def _plain_chain(layer: Layer) -> bool:
    return layer.target is None and layer.label is None and layer.weights is None


def apply(cx: Context, layer: Layer, more: dict[str, Given], span: Span) -> Any:
    """Give a layer its tensors."""
    given = {**layer.inputs, **more}
    inputs = {name: given[name] for port in slots(layer.target)[1] if (name := port.strip("*?")) in given}
    if isinstance(layer.target, BlockDef):
        return blocks.apply_block(cx, layer, inputs, span)
    assert layer.target is not None
    inputs = dict(_logarithm(layer.target, name, item) for name, item in inputs.items())
    if layer.target.lowered:
        return mixtures.lower(cx, layer, inputs, span)
    if layer.target.sequential and "over" in layer.hypers:
        return orders.lower(cx, layer, inputs, span)
    hypers = dict(layer.hypers)
    if "position" in layer.target.kinds():
        inputs = _positioned(cx, layer.target, hypers, inputs, span)
    op = construct(layer.target, hypers, layer.span)
    pairs = [pair for name, given in inputs.items() for pair in operands(name, given, layer.target)]
    places = {name: given.span for name, given in {**hypers, **inputs}.items()}
    places |= {name: places[other] for name, other in op.logarithms.items() if other in places}
    values = add(cx, op, pairs, span, places, made=span if layer.span in span else layer.span)
    graph = cx.frame.graph
    if params := graph.params(node := graph.producer(values[0])):
        weights.check_working(layer.name, pairs, span)
        held = node.op.held(*graph.input_types(node))
        graph.label(values[0], weights.weights_label(cx, layer, params, span, held))
    return values if len(values) > 1 else values[0]


def operands(name: str, given: Given, target: Any) -> list[tuple[str, Value]]:
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


def _logarithm(target: type[Primitive], name: str, given: Given) -> tuple[str, Given]:
    """What is given as `exp(x)` and better taken as its logarithm is taken as x."""
    if name not in target.logarithms or not isinstance(given.value, Value):
        return name, given
    graph, producer = given.value.graph, given.value.graph.node(given.value.node)
    if producer.op.name != "exp":
        return name, given
    return target.logarithms[name], Given(graph.operands(producer)[0][1], given.span)


def _positioned(
    cx: Context, target: type[Primitive], hypers: dict[str, Given], inputs: dict[str, Given], span: Span
) -> dict[str, Given]:
    """Lower `position`: a layer that rotates is applied to q and k, one that makes a bias becomes an input, as a tensor
    does.
    """
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
    places: Mapping[str, Span] | None = None,
) -> Any:
    """A primitive by its name in the registry, for the operators and subscripts of the language. `places` are where its
    arguments stand; under "" the sign of an operator.
    """
    cls = CONSTRUCTS[name]
    assert issubclass(cls, Primitive)
    hypers = {field: Given(value, span) for field, value in fields.items()}
    op = construct(cls, hypers, span)
    values = add(cx, op, pairs, span, places or {})
    return values if len(values) > 1 else values[0]


def add(
    cx: Context,
    op: Primitive,
    pairs: Sequence[tuple[str, Value]],
    span: Span,
    places: Mapping[str, Span],
    made: Span | None = None,
) -> tuple[Value, ...]:
    """Add a node; what the operation refuses is an error with the places of its arguments. `made` is where to say that
    its values come from.
    """
    cx.session.budget.node(span)
    if cx.session.cuts:
        from archlang.elaborate.segments import honour

        pairs = honour(cx, op, pairs, span)
    cx.frame.size += 1
    operands = [(argument, cx.frame.capture(value)) for argument, value in pairs]
    try:
        values = cx.frame.graph.add(op, operands, facts=cx.session.facts, span=made or span)
        for value in values:
            _check_type(op, value.type)
    except OpError as failure:
        raise explain(failure, operands, span, places) from None
    return values


def _check_type(op: Primitive, type_: TensorType) -> None:
    """Every axis stands once, and has a size of at least 1 that a machine can count."""
    for i, made in enumerate(type_):
        if made.name in type_.names[:i]:
            raise OpError("A206", f"`{op.name}` would make a second axis `{made.name}`")
        if made.name in AXIS_WORDS:
            raise OpError("A206", f"`{op.name}` would make an axis `{made.name}`, a word that stands for axes")
        if isinstance(made.size, int) and not 1 <= made.size <= MAX_SIZE:
            if made.size < 1:
                raise OpError("A216", f"`{op.name}` makes an axis `{made.name}` of size {made.size}")
            raise OpError("A815", f"`{op.name}` makes an axis `{made.name}` of more than {MAX_SIZE:,} positions")
