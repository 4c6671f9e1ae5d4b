"""Folding, for inference: what scales and shifts channels moves into the weights of linear layers. All weights keep
their names: the new ones are worked out from them.
"""

from archlang.ir import Value
from archlang.passes.affine import (
    INNER,
    LINEAR,
    Scaling,
    after,
    before,
    entrance,
    other,
    refuses_shift,
    refuses_units,
    scaling,
    x_of,
)
from archlang.rewrite import Match, No, Result, Rule, rule


# ---- norms
@rule("norm(layer(x, ...))", "reassociating", norm="batch_norm instance_norm group_norm", layer=LINEAR)
def norm_after(m: Match) -> Result:
    """batch_norm(W x + b) = (s W) x + s b + t with s = weight / sqrt(running_var + eps), t = bias - running_mean s."""
    if m.norm.op.name != "batch_norm":
        return No(f"the statistics of `{m.norm.op.name}` are those of each sample, also in evaluation")
    return refuses_units(m, m.layer, (m.norm.op.on,)) or after(m, m.layer, Scaling(*scaling(m, m.norm, "units")))


@rule("layer(batch_norm(x), ...)", "reassociating", layer=INNER)
def norm_before(m: Match) -> Result:
    """W batch_norm(x) + b = (W s) x + W t + b."""
    axis = entrance(m, m.layer)
    if isinstance(axis, No):
        return axis
    if m.batch_norm.op.on != "c":
        return No(f"the norm is over {m.batch_norm.op.on}, and `{m.layer.op.name}` sums over c")
    return refuses_shift(m, m.layer) or before(m, m.layer, m.x, Scaling(*scaling(m, m.batch_norm, axis)))


@rule("batch_norm_2(batch_norm_1(x))", "reassociating")
def norm_pair(m: Match) -> Result:
    """batch_norm(batch_norm(x)) = s2 s1 x + s2 t1 + t2."""
    if m.batch_norm_1.op.on != m.batch_norm_2.op.on:
        return No(f"the norms are over {m.batch_norm_1.op.on} and {m.batch_norm_2.op.on}")
    axis = m.batch_norm_1.op.on
    (scale, shift), (more, extra) = scaling(m, m.batch_norm_1, axis), scaling(m, m.batch_norm_2, axis)
    shift = m.call("add", m.call("mul", shift, more), extra)
    return m.call("add", m.call("mul", m.x, m.call("mul", scale, more)), shift)


@rule("batch_norm(x) + share(x, ...)", "reassociating", share="mul")
def norm_and_share(m: Match) -> Result:
    """batch_norm(x) + a x = (s + a) x + t."""
    axis, share = m.batch_norm.op.on, other(m, m.share, m.x)
    if share is None or (isinstance(share, Value) and not {axis}.issuperset(share.type.names)):
        return None
    scale, shift = scaling(m, m.batch_norm, axis)
    return m.call("add", m.call("mul", m.x, m.call("add", scale, share)), shift)


# ---- scales and shifts
@rule("layer_scale(layer(x, ...))", "reassociating", layer=LINEAR)
def layer_scale_after(m: Match) -> Result:
    """gamma (W x + b) = (gamma W) x + gamma b."""
    gamma = m.weight(m.layer_scale, "gamma")
    assert gamma is not None
    return _scaled(m, gamma)


@rule("mul(layer(x, ...), ...)", "reassociating", layer=LINEAR)
def scale_after(m: Match) -> Result:
    """a (W x + b) = (a W) x + a b."""
    factor = other(m, m.mul, m.result(m.layer))
    if factor is not None:
        return _scaled(m, factor)
    inner = m.graph.producer(x_of(m, m.layer))
    low_rank = m.layer.op.name == inner.op.name == "linear" and len(m.graph.operands(m.mul)) == 2
    return No("a gate that depends on the input does not go into weights") if low_rank else None


def _scaled(m: Match, factor: Value | float) -> Result:
    axes = factor.type.names if isinstance(factor, Value) else ()
    if refusal := refuses_units(m, m.layer, axes):
        return refusal
    by = m.renamed(factor, **dict.fromkeys(axes, "units")) if isinstance(factor, Value) else factor
    return after(m, m.layer, Scaling(by, None))


@rule("total(layer(x, ...), ...)", "reassociating", total="add", layer=LINEAR)
def shift_after(m: Match) -> Result:
    """W x + b + a = W x + (b + a)."""
    shift = other(m, m.total, m.result(m.layer))
    if not isinstance(shift, Value) or len(shift.type.axes) != 1:
        return None
    axes = shift.type.names
    refusal = refuses_units(m, m.layer, axes)
    return refusal or after(m, m.layer, Scaling(None, m.renamed(shift, **{axes[0]: "units"})))


@rule("layer(mul(x, ...), ...)", "reassociating", layer=INNER)
def scale_before(m: Match) -> Result:
    """W (a x) + b = (W a) x + b."""
    factor = other(m, m.mul, m.x)
    if factor is None or (isinstance(factor, Value) and factor.type.names not in ((), ("c",))):
        return None
    axis = entrance(m, m.layer)
    if isinstance(axis, No):
        return axis
    by = m.renamed(factor, c=axis) if isinstance(factor, Value) else factor
    return before(m, m.layer, m.x, Scaling(by, None))


@rule("layer(total(x, ...), ...)", "reassociating", total="add", layer=INNER)
def shift_before(m: Match) -> Result:
    """W (x + a) + b = W x + W a + b."""
    shift = other(m, m.total, m.x)
    if not isinstance(shift, Value) or shift.type.names != ("c",):
        return None
    axis = entrance(m, m.layer)
    if isinstance(axis, No):
        return axis
    return refuses_shift(m, m.layer) or before(m, m.layer, m.x, Scaling(None, m.renamed(shift, c=axis)))


RULES: tuple[Rule, ...] = (
    norm_after,
    norm_before,
    norm_pair,
    norm_and_share,
    layer_scale_after,
    scale_after,
    shift_after,
    scale_before,
    shift_before,
)
