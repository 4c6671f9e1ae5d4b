"""Layers that are linear in each channel, and what folding takes from a rule: scale and shift of a norm, the weights of
linear layers.
"""

from archlang.ir import Node, Value
from archlang.primitives.conv import Conv, Depthwise
from archlang.primitives.conv_transpose import ConvTranspose
from archlang.primitives.linear import Linear
from archlang.rewrite import Match, No

LINEAR = "conv depthwise linear conv_transpose"
Scaling = tuple[Value, Value | None]  # y = x scale + shift, over one axis


def scaling(m: Match, norm: Node, axis: str) -> Scaling:
    """What a batch norm does in evaluation, as scale and shift over an axis of this name."""
    over = {norm.op.on: axis}  # type: ignore[attr-defined]
    mean, var = m.weight(norm, "running_mean", **over), m.weight(norm, "running_var", **over)
    weight, bias = m.weight(norm, "weight", **over), m.weight(norm, "bias", **over)
    assert mean is not None
    assert var is not None
    scale = m.call("rsqrt", m.call("add", var, norm.op.eps))  # type: ignore[attr-defined]
    scale = m.call_it(scale if weight is None else m.call("mul", weight, scale), "scale")
    moved = m.call("mul", mean, scale)
    return scale, m.call("neg", moved) if bias is None else m.call("sub", bias, moved)


def weights(m: Match, node: Node) -> tuple[Value, Value | None]:
    """The weight and bias of a linear layer; their first axis is `units`."""
    weight, bias = m.weight(node, "weight"), m.weight(node, "bias")
    assert weight is not None
    if isinstance(node.op, Depthwise) and m.operand(node, "weight") is not None:  # it has an axis less
        weight = m.renamed(weight, c="units")
    return weight, bias and m.renamed(bias, c="units")


def replace(m: Match, node: Node, x: Value, weight: Value, offset: Value | None) -> Value:
    """A linear layer with other weights."""
    name = (node.label or node.op.name).split(".")[0].lstrip("@")
    m.call_it(weight, f"{name}_weight")
    if offset is not None:
        m.call_it(offset, f"{name}_bias")
    op = node.op.conv(x.type) if isinstance(node.op, Depthwise) else node.op
    return m.add(op.model_copy(update={"bias": False}), node, None, x=x, weight=weight, offset=offset)


def scaled(m: Match, node: Node, scale: Value, shift: Value | None) -> Value:
    """scale * layer(x) + shift, with scale and shift over `units`, as one layer."""
    weight, bias = weights(m, node)
    weight = m.call("mul", weight, scale)
    moved = bias and m.call("mul", bias, scale)
    offset = m.call("add", moved, shift) if moved and shift else moved or shift
    return replace(m, node, x_of(m, node), weight, offset)


def x_of(m: Match, node: Node) -> Value:
    """What a layer is applied to."""
    x = m.operand(node, "x")
    assert x is not None
    return x


def refuses_units(m: Match, node: Node, axis: str) -> No | None:
    """Why what scales an axis cannot scale the units of a layer."""
    op = node.op
    if isinstance(op, Linear):
        made = [a.name for a in op.made(x_of(m, node).type)]
        return None if made == [axis] else No(f"`{op.name}` makes {', '.join(made)}, and the scale is over `{axis}`")
    if axis != "c":
        return No(f"`{op.name}` makes channels, and the scale is over `{axis}`")
    if isinstance(op, ConvTranspose) and op.groups != 1:
        return No("the units of a transposed convolution in groups lie apart in its weight")
    given = m.operand(node, "weight")
    if isinstance(op, Conv | Depthwise) and given is not None and "b" in given.type:
        return No("every sample has a kernel of its own")
    return None
