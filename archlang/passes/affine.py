"""Linear layers and what is linear in each channel: what the rules of folding take apart and put together."""

from dataclasses import dataclass

from archlang.analysis.determined import is_determined
from archlang.ir import Node, Value
from archlang.primitives.conv import Conv, Depthwise
from archlang.primitives.conv_transpose import ConvTranspose
from archlang.primitives.linear import Linear, contracted
from archlang.primitives.sliding import windows
from archlang.rewrite import Match, No

LINEAR = "conv depthwise linear conv_transpose"
INNER = "conv depthwise linear"  # those of which every output sees all that a kernel holds


@dataclass(frozen=True, slots=True)
class Scaling:
    """y = x scale + shift, each over one axis, or a number; None where there is none."""

    scale: Value | float | None
    shift: Value | None


def scaling(m: Match, norm: Node, axis: str) -> tuple[Value, Value]:
    """Scale and shift of a batch norm in evaluation, over an axis of this name."""
    over = {norm.op.on: axis}  # type: ignore[attr-defined]
    mean, var = m.weight(norm, "running_mean", **over), m.weight(norm, "running_var", **over)
    weight, bias = m.weight(norm, "weight", **over), m.weight(norm, "bias", **over)
    assert mean is not None
    assert var is not None
    scale = m.call("rsqrt", m.call("add", var, norm.op.eps))  # type: ignore[attr-defined]
    scale = m.call_it(scale if weight is None else m.call("mul", weight, scale), "scale")
    moved = m.call("mul", mean, scale)
    return scale, m.call("neg", moved) if bias is None else m.call("sub", bias, moved)


def other(m: Match, node: Node, operand: Value) -> Value | float | None:
    """What a value is multiplied with or added to, where weights or numbers determine it."""
    values = [value for _, value in m.graph.operands(node)]
    if len(values) == 1:
        number = node.op.right if node.op.left is None else node.op.left  # type: ignore[attr-defined]
        return float(number) if isinstance(number, int | float) else None
    found = values[1] if values[0] == operand else values[0]
    return found if is_determined(m.graph, found) else None


# ---- linear layers
def x_of(m: Match, node: Node) -> Value:
    """What a layer is applied to."""
    x = m.operand(node, "x")
    assert x is not None
    return x


def weights(m: Match, node: Node) -> tuple[Value, Value | None]:
    """The weight of a linear layer, as `conv` has it, and its bias over `units`."""
    weight, bias = m.weight(node, "weight"), m.weight(node, "bias")
    assert weight is not None
    return weight, bias and m.renamed(bias, c="units")


def replaced(m: Match, node: Node, weight: Value, offset: Value | None, x: Value | None = None) -> Value:
    """A linear layer with other weights."""
    name = called(m, node)
    m.call_it(weight, f"{name}_weight")
    if offset is not None:
        m.call_it(offset, f"{name}_bias")
    x = x or x_of(m, node)
    op = node.op.conv(x.type) if isinstance(node.op, Depthwise) else node.op
    return m.add(op.model_copy(update={"bias": False}), node, None, x=x, weight=weight, offset=offset)


def called(m: Match, node: Node) -> str:
    """What a layer is called: its label, or what its weight was called by that."""
    given = m.operand(node, "weight")
    before = given and m.graph.name_of(given)
    return (node.label or (before or node.op.name).removesuffix("_weight")).split(".")[0].lstrip("@")


def plus(m: Match, a: Value | None, b: Value | None) -> Value | None:
    """a + b, where None is 0."""
    return m.call("add", a, b) if a is not None and b is not None else a if b is None else b


def refuses(m: Match, node: Node) -> No | None:
    """Why nothing folds into a layer."""
    given = m.operand(node, "weight")
    if given is None or isinstance(node.op, Linear):
        return None
    if isinstance(node.op, Depthwise):
        return No("a kernel that is given to `depthwise` stays as it is")
    return None if is_determined(m.graph, given) else No("the kernel depends on the input")


# ---- behind a layer: scale * (W x + b) + shift = (scale W) x + scale b + shift
def after(m: Match, node: Node, by: Scaling) -> Value:
    """What a layer makes, scaled and shifted over `units`, as one layer."""
    weight, bias = weights(m, node)
    if by.scale is not None:
        weight = m.call("mul", weight, by.scale)
        bias = bias and m.call("mul", bias, by.scale)
    return replaced(m, node, weight, plus(m, bias, by.shift))


def refuses_units(m: Match, node: Node, axes: tuple[str, ...]) -> No | None:
    """Why what is over these axes cannot scale the units of a layer."""
    op = node.op
    if not axes:
        return refuses(m, node)
    made = tuple(a.name for a in op.made(x_of(m, node).type)) if isinstance(op, Linear) else ("c",)
    if axes != made:
        return No(f"`{op.name}` makes {', '.join(made)}, and the scale is over {', '.join(axes)}")
    if isinstance(op, ConvTranspose) and op.groups != 1:
        return No("the units of a transposed convolution in groups lie apart in its weight")
    return refuses(m, node)


# ---- before a layer: W (scale x + shift) + b = (W scale) x + W shift + b
def before(m: Match, node: Node, x: Value, by: Scaling) -> Value:
    """A layer of what is scaled and shifted over its inputs, as one layer of x."""
    weight, bias = weights(m, node)
    shift = by.shift and _sum_to_units(m, m.call("mul", weight, by.shift))
    scaled = weight if by.scale is None else m.call("mul", weight, by.scale)
    return replaced(m, node, scaled, plus(m, bias, shift), x)


def _sum_to_units(m: Match, x: Value) -> Value:
    return m.call("sum", x, on=tuple(name for name in x.type.names if name != "units"))


def entrance(m: Match, node: Node) -> str | No:
    """The axis of the weight that stands for the channels going in, or why there is none to scale."""
    op, x = node.op, x_of(m, node)
    if refusal := refuses(m, node):
        return refusal
    if isinstance(op, Linear):
        on = contracted(op.on, x.type)
        given = m.operand(node, "weight")
        name = "on" if given is None or "on" in given.type else on[0]
        return name if on == ("c",) else No(f"`linear` sums over {', '.join(on)}")
    if isinstance(op, Depthwise):
        return "units"
    assert isinstance(op, Conv)
    if op.groups == 1:
        return "c"
    return "units" if op.groups == x.type.size("c") == op.units else No(f"`conv` works in {op.groups} groups")


def refuses_shift(m: Match, node: Node) -> No | None:
    """Why a shift cannot pass a layer: zeros around the map would have to be shifted with it."""
    op = node.op
    if isinstance(op, Linear) or op.mode != "zeros":  # type: ignore[attr-defined]
        return None
    padded = [w.name for w in windows(op, x_of(m, node).type) if (w.left, w.right) != (0, 0)]
    return No(f"the zeros around {' and '.join(padded)} are not shifted as the map is") if padded else None
