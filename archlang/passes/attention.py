"""How attention is computed."""

from archlang.rewrite import Match, Result, Rule, rule


@rule("attend(q, k, v, ...)", "reassociating")
def fused_core(m: Match) -> Result:
    """softmax(q k^T + bias) v is one kernel, which takes a bias that needs no gradient, however few keys there are."""
    op = m.attend.op
    ways = op.cores(*m.types(m.attend))
    return m.vary(m.attend, core="fused") if op.core is None and ways[:1] == ("written",) else None


RULES: tuple[Rule, ...] = (fused_core,)
