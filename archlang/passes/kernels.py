"""What kernels take in one step and PyTorch in several: only where kernels are written."""

from typing import Any

from archlang.ir import Node
from archlang.primitives.broadcast import one_axis
from archlang.primitives.cross_entropy import CrossEntropy, LinearCrossEntropy
from archlang.primitives.linear import contracted
from archlang.primitives.sliding import windows
from archlang.primitives.wide_depthwise import WideDepthwise
from archlang.rewrite import Match, No, Result, Rule, rule

MANY = 1024  # classes: the logits of fewer are small beside what makes them
LARGE = range(7, 32)  # kernels of images: PyTorch has fast ones for those that are smaller


@rule("f(causal_conv(...))", "exact", f="silu swish")
def silu_of_conv(m: Match) -> Result:
    """silu(causal_conv(x)) in one step."""
    return None if m.causal_conv.op.silu else m.vary(m.causal_conv, silu=True)


@rule("depthwise(x)", "reassociating")
def large_depthwise(m: Match) -> Result:
    """depthwise(x) = wide_depthwise(x, weight, bias) over an image, with a large kernel."""
    op: Any = m.root.op
    found = windows(op, m.x.type)
    sides = [window.kernel for window in found]
    if len(found) != 2 or max(sides) < LARGE[0] or op.mode != "zeros" or (m.root.label or "@").startswith("@"):
        return None
    if any((w.stride, w.dilation, w.left, w.right) != (1, 1, (w.kernel - 1) // 2, w.kernel // 2) for w in found):
        return No("the kernel has neither stride nor dilation, and keeps the size")
    if max(sides) > LARGE[-1]:
        return No(f"the kernel is for {LARGE[-1]} positions along an axis at most, and there are {max(sides)}")
    names = tuple(window.name for window in found)
    made = WideDepthwise(on=names, kernel=op.kernel)
    if windows(made.conv, m.x.type) != found:
        return None
    weight = m.weight(m.root, "weight", **dict(zip(names, ("high", "wide"), strict=True)))
    return m.add(made, m.root, None, x=m.x, weight=weight, bias=m.weight(m.root, "bias"))


@rule("cross_entropy(linear(x, ...), target)", "reassociating")
def loss_of_linear(m: Match) -> Result:
    """cross_entropy(linear(x), target) = linear_cross_entropy(x, weight, target, bias), which holds no logits."""
    op, on = m.linear.op, contracted(m.linear.op.on, m.x.type)
    made = [axis.name for axis in op.made(m.x.type)]
    if len(on) != 1 or made != [_classes(m, m.linear)] or (m.linear.label or "@").startswith("@"):
        return None
    if reason := _refusal(m, m.linear):
        return No(reason)
    weight, bias = m.weight(m.linear, "weight", **{on[0]: "on"}), m.weight(m.linear, "bias")
    return m.add(LinearCrossEntropy(on=on, loss=_loss(m)), x=m.x, weight=weight, target=m.target, bias=bias)


@rule("cross_entropy(dot(x, table), target)", "reassociating")
def loss_of_dot(m: Match) -> Result:
    """cross_entropy(dot(x, table), target) = linear_cross_entropy(x, table, target): with the table of an embedding."""
    on, classes = contracted(m.dot.op.on, m.x.type), _classes(m, m.dot)
    if len(on) != 1 or set(m.table.type.names) != {classes, *on} or classes in m.x.type:
        return None
    if reason := _refusal(m, m.dot):
        return No(reason)
    weight = m.renamed(m.table, **{classes: "units", on[0]: "on"})
    return m.add(LinearCrossEntropy(on=on, loss=_loss(m)), x=m.x, weight=weight, target=m.target)


def _loss(m: Match) -> CrossEntropy:
    assert isinstance(m.root.op, CrossEntropy)
    return m.root.op


def _classes(m: Match, layer: Node) -> str:
    """The axis of the classes of a loss, in the logits that a layer makes."""
    return one_axis(_loss(m).on, m.result(layer).type)


def _refusal(m: Match, layer: Node) -> str:
    """Why the logits of a loss stay, if so."""
    size = m.result(layer).type.size(_classes(m, layer))
    return f"the logits of {size} classes are small" if isinstance(size, int) and size < MANY else ""


RULES: tuple[Rule, ...] = (silu_of_conv, large_depthwise, loss_of_linear, loss_of_dot)
