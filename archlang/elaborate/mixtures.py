"""Layers that stand side by side: `mixture`, of which data chooses some for each token, and `each`, one for every
position of an axis.
"""

from typing import Any

from archlang.diagnostics import Label, error
from archlang.elaborate import calls
from archlang.elaborate.context import Context
from archlang.elaborate.values import Given, Layer, kind_of
from archlang.ir import Value
from archlang.primitives.mixture import Bound, Combine, Dispatch, Each, Mixture, Unbind
from archlang.source import Span


def lower(cx: Context, layer: Layer, inputs: dict[str, Given], span: Span) -> Any:
    """The value of `mixture` or `each`."""
    if layer.weights is not None:
        title = f"`{layer.weights.name}` is several layers, and cannot be shared by name"
        raise error("A704", title, layer.span, help="share a block that holds it")
    places = {name: given.span for name, given in {**layer.hypers, **inputs}.items() if name != "on"}
    pairs = [pair for name, given in inputs.items() for pair in calls.operands(name, given, layer.target)]
    if layer.target is Mixture:
        return _mixture(cx, layer, dict(pairs), span, places)
    return _each(cx, layer, dict(pairs), span, places)


def _mixture(cx: Context, layer: Layer, given: dict[str, Value], span: Span, places: dict[str, Span]) -> Value:
    made = calls.construct(Mixture, layer.hypers, layer.span)
    layers = _layers(layer, made.layers)
    pairs = [("x", given["x"]), ("index", given["index"])]
    *parts, order = calls.add(cx, Dispatch(experts=len(layers), on=made.on), pairs, span, places)
    cx.frame.graph.rename(order, "order")
    results = _side_by_side(cx, layer, layers, parts, span)
    _check_weight(cx, given, places)
    pairs = [("weight", given["weight"]), ("order", order), *((f"parts.{i}", part) for i, part in enumerate(results))]
    (value,) = calls.add(cx, Combine(on=made.on), pairs, span, places)
    return value


def _layers(layer: Layer, value: Any) -> tuple[Layer, ...]:
    place = layer.hypers["layers"].span
    if not isinstance(value, tuple) or not value:
        found = "empty" if value == () else f"a {kind_of(value)}"
        raise error("A303", f"`layers` must be a list of layers, and is {found}", place)
    for item in value:
        if not isinstance(item, Layer):
            raise error("A303", f"`layers` must be a list of layers, and holds a {kind_of(item)}", place)
    return value


def _check_weight(cx: Context, given: dict[str, Value], places: dict[str, Span]) -> None:
    """A weight for each choice."""
    index, weight = given["index"].type, given["weight"].type
    same = set(index.names) == set(weight.names)
    if not same or not all(cx.session.facts.equal(axis.size, weight.size(axis.name)) for axis in index):
        first, second = Label(places["weight"], str(weight)), Label(places["index"], str(index))
        raise error("A204", "`weight` and `index` of a mixture have the same axes", first, second)


def _each(cx: Context, layer: Layer, given: dict[str, Value], span: Span, places: dict[str, Span]) -> Value:
    made = calls.construct(Each, layer.hypers, layer.span)
    if not isinstance(made.layer, Layer):
        raise error("A303", f"`layer` must be a layer, and is a {kind_of(made.layer)}", places["layer"])
    parts = calls.add(cx, Unbind(axis=made.axis), [("x", given["x"])], span, places)
    results = _side_by_side(cx, layer, (made.layer,) * len(parts), parts, span)
    pairs = [(f"parts.{i}", part) for i, part in enumerate(results)]
    (value,) = calls.add(cx, Bound(axis=given["x"].type[made.axis]), pairs, span, places)
    return value


def _side_by_side(cx: Context, layer: Layer, layers: tuple[Layer, ...], parts: Any, span: Span) -> list[Value]:
    """Each layer applied to its part; layer i has the weights `name.i`."""
    name = cx.frame.claim(layer.label or layer.name, layer)
    before = len(cx.frame.labels)
    results = [
        _applied(cx, item if item.weights is not None else _labelled(item, f"{name}.{i}"), part, span)
        for i, (item, part) in enumerate(zip(layers, parts, strict=True))
    ]
    if len(cx.frame.labels) == before:
        del cx.frame.labels[name]
    for item, result in zip(layers, results, strict=True):
        _check_alike(cx, (layers[0], results[0]), (item, result))
    return results


def _labelled(layer: Layer, name: str) -> Layer:
    return calls.labelled(layer.fresh(), name, layer.span)


def _applied(cx: Context, layer: Layer, part: Value, span: Span) -> Value:
    value = calls.pipe(cx, part, layer, span)
    if not isinstance(value, Value):
        raise error("A303", f"a layer among others gives one tensor, and this a {kind_of(value)}", layer.span)
    return value


def _check_alike(cx: Context, first: tuple[Layer, Value], other: tuple[Layer, Value]) -> None:
    """All layers make one type."""
    a, b = first[1].type, other[1].type
    same = set(a.names) == set(b.names) and a.dtype == b.dtype
    if not same or not all(cx.session.facts.equal(axis.size, b.size(axis.name)) for axis in a):
        places = [Label(other[0].span, f"makes {b}"), Label(first[0].span, f"makes {a}")]
        raise error("A204", "layers side by side make one type", *places[: 2 if other[0].span != first[0].span else 1])
