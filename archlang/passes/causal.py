"""Convolutions of each channel that see only what came before, with the channels where linear layers leave them."""

from typing import Any

from archlang.primitives.causal_conv import CausalConv
from archlang.primitives.sliding import windows
from archlang.rewrite import Match, No, Result, Rule, rule

TAPS = 6  # the backward pass of a kernel reads each position that often for each


@rule("depthwise(x)", "reassociating")
def causal_depthwise(m: Match) -> Result:
    """depthwise(x) = causal_conv(x, weight, bias), along one axis, where nothing ahead is seen."""
    op: Any = m.root.op
    window, *others = windows(op, m.x.type)
    causal = (window.stride, window.left, window.right) == (1, window.reach, 0)
    if others or not causal or not window.reach or op.mode != "zeros" or (m.root.label or "@").startswith("@"):
        return None
    if window.kernel > TAPS:
        return No(f"copies are saved for {TAPS} positions at most, and there are {window.kernel}")
    if m.x.type.names[-1] != "c":
        return No(f"the channels of {m.x.type} are not the last axis")
    made = CausalConv(on=window.name, kernel=window.kernel, dilation=window.dilation)
    weight = m.weight(m.root, "weight", **{window.name: "tap"})
    return m.add(made, m.root, None, x=m.x, weight=weight, bias=m.weight(m.root, "bias"))


RULES: tuple[Rule, ...] = (causal_depthwise,)
