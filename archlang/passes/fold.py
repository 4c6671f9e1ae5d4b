"""Folding, for inference: what weights alone determine moves into the weights. The weights keep their names: the new
ones are worked out from them.
"""

from archlang.passes.affine import LINEAR, refuses_units, scaled, scaling
from archlang.rewrite import Match, Result, Rule, rule


@rule("batch_norm(layer(x, ...))", "reassociating", layer=LINEAR)
def norm_after(m: Match) -> Result:
    """batch_norm(W x + b) = (s W) x + s b + t with s = weight / sqrt(running_var + eps), t = bias - running_mean s."""
    refusal = refuses_units(m, m.layer, m.batch_norm.op.on)
    return refusal or scaled(m, m.layer, *scaling(m, m.batch_norm, "units"))


RULES: tuple[Rule, ...] = (norm_after,)
