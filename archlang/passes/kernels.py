"""What kernels take in one step and PyTorch in several: only where kernels are written."""

from archlang.rewrite import Match, Result, Rule, rule


@rule("f(causal_conv(...))", "exact", f="silu swish")
def silu_of_conv(m: Match) -> Result:
    """silu(causal_conv(x)) in one step."""
    return None if m.causal_conv.op.silu else m.vary(m.causal_conv, silu=True)


RULES: tuple[Rule, ...] = (silu_of_conv,)
