"""What kernels take in one step and PyTorch in several: only where kernels are written."""

from typing import Any

from archlang.primitives.causal_conv import CausalConv
from archlang.primitives.sliding import windows
from archlang.rewrite import Match, No, Result, Rule, rule

TAPS = 6  # of a kernel: the backward pass reads each position that often for each


@rule("depthwise(x)", "exact")
def causal_depthwise(m: Match) -> Result:
    """depthwise(x) = causal_conv(x, weight, bias), along one axis, where nothing ahead is seen."""
    op: Any = m.root.op
    window, *others = windows(op, m.x.type)
    causal = (window.stride, window.left, window.right) == (1, window.reach, 0)
    if others or not causal or not window.reach or op.mode != "zeros" or (m.root.label or "@").startswith("@"):
        return None
    if window.kernel > TAPS:
        return No(f"the kernel is for {TAPS} positions at most, and there are {window.kernel}")
    made = CausalConv(on=window.name, kernel=window.kernel, dilation=window.dilation)
    weight = m.weight(m.root, "weight", **{window.name: "tap"})
    return m.add(made, m.root, None, x=m.x, weight=weight, bias=m.weight(m.root, "bias"))


@rule("f(causal_conv(...))", "exact", f="silu swish")
def silu_of_conv(m: Match) -> Result:
    """silu(causal_conv(x)) in one step."""
    return None if m.causal_conv.op.silu else m.vary(m.causal_conv, silu=True)


RULES: tuple[Rule, ...] = (causal_depthwise, silu_of_conv)
