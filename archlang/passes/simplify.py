"""Rules that make a graph smaller without changing a bit of what it computes."""

from archlang.rewrite import Match, Result, Rule, rule


# ---- evaluation: noise is for training
@rule("noise(x)", "exact", noise="dropout drop_path stochastic_depth label_dropout")
def no_noise(m: Match) -> Result:
    """In evaluation dropout(x) = x."""
    return m.x


# ---- identities
@rule("identity(x)", "exact")
def no_identity(m: Match) -> Result:
    """identity(x) = x."""
    return m.x


EVALUATION: tuple[Rule, ...] = (no_noise,)
RULES: tuple[Rule, ...] = (no_identity,)
