"""Weights of layers: their labels, what sharing asks of them, and weights as tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

from archlang.diagnostics import Label, error, suggest
from archlang.elaborate.context import Context
from archlang.elaborate.frame import Frame
from archlang.elaborate.values import Layer, Weights
from archlang.ir import Value, WeightOf
from archlang.primitive import Param
from archlang.shapes import TensorType, axis
from archlang.sizes import Poly
from archlang.source import Span


def check_working(name: str, pairs: Sequence[tuple[str, Value]], span: Span) -> None:
    """Weights are of the working type, and PyTorch multiplies them with no other; `float32` may be that."""
    for _, value in pairs:
        if value.type.dtype in ("float16", "bfloat16", "float64") or value.type.dtype.startswith("complex"):
            title = f"the weights of `{name}` are of the working type, and this is {value.type.dtype}"
            made = value.graph.producer(value).span
            raise error("A214", title, span, Label(made, f"{value.type.dtype} here"), help="`cast(x, float)` before it")


def check_fixed(params: Mapping[str, Param], span: Span) -> None:
    """A weight exists before any input does, so its sizes are numbers."""
    for leaf, param in params.items():
        if free := [name for name, size in zip(param.names, param.shape, strict=True) if isinstance(size, Poly)]:
            title = f"the weight `{leaf}` would have the free size {param.shape[param.names.index(free[0])]}"
            raise error("A220", title, span, help="give the axis a size where the model declares its input")
        if any(isinstance(size, int) and size < 1 for size in param.shape):
            shape = ", ".join(map(str, param.shape))
            raise error("A216", f"the weight `{leaf}` would have the sizes [{shape}]", span)


def weights_label(cx: Context, layer: Layer, params: dict[str, Param], span: Span, held: str = "") -> str:
    """The label of a layer's weights in the graph at hand; a shared layer claims it once, where it was bound. `held` is
    what its module holds besides.
    """
    check_fixed(params, span)
    if layer.weights is None:
        return cx.frame.claim(layer.label or layer.name, layer)
    shared = layer.weights
    if shared.instance is None:
        shared.instance = shared.home.claim(shared.name, layer)
        shared.params, shared.held = params, held
    elif dict(shared.params) != dict(params):
        raise _other(layer, span, "weights", _shapes(params), _shapes(dict(shared.params)))
    elif shared.held != held:
        raise _other(layer, span, "constants", held, shared.held)
    return cx.frame.reach(shared)


def _other(layer: Layer, span: Span, what: str, needed: str, found: str) -> Exception:
    assert layer.weights is not None
    title = f"`{layer.weights.name}` is one layer, and its inputs here need other {what}"
    labels = Label(span, f"needs {needed}"), Label(layer.span, f"has {found}")
    return error("A704", title, *labels, help="write the layer again for weights of its own")


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
