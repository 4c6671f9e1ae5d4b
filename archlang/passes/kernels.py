"""What kernels take in one step and PyTorch in several: only where kernels are written."""

from typing import Any

from archlang.primitives.sliding import windows
from archlang.primitives.wide_depthwise import WideDepthwise
from archlang.rewrite import Match, No, Result, Rule, rule

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


RULES: tuple[Rule, ...] = (silu_of_conv, large_depthwise)
