"""Branches and chains of linear layers that are one layer when they only evaluate: RepVGG (Ding et al., CVPR 2021),
UniRepLKNet (Ding et al., CVPR 2024), SESR (Bhardwaj et al., MLSys 2022), LoRA (Hu et al., ICLR 2022).
"""

from collections.abc import Sequence
from dataclasses import replace
from math import gcd, prod

from archlang.ir import Node, Value
from archlang.passes.affine import (
    INNER,
    Scaling,
    called,
    entrance,
    other,
    plus,
    refuses,
    replaced,
    scaling,
    weights,
    x_of,
)
from archlang.primitives.conv import Conv, Depthwise
from archlang.primitives.linear import Linear, contracted
from archlang.primitives.sliding import Window, windows
from archlang.rewrite import Match, No, Result, Rule, rule

SLIDING = "conv depthwise"


# ---- sums
@rule("kernel_1(x, ...) + kernel_2(x, ...)", "reassociating", kernel=SLIDING)
def kernels_in_parallel(m: Match) -> Result:
    """W1 x + b1 + W2 x + b2 = (W1 + W2) x + (b1 + b2), the kernels laid over one another with their centres."""
    one, two = m.kernel_1, m.kernel_2
    if refusal := refuses(m, one) or refuses(m, two) or _refuses_pair(m, one, two):
        return refusal
    grid = _grid(_windows(m, one), _windows(m, two))
    if isinstance(grid, No):
        return grid
    (weight, bias), (more, extra) = weights(m, one), weights(m, two)
    laid = m.call("add", _laid(m, weight, _windows(m, one), grid), _laid(m, more, _windows(m, two), grid))
    return _with_grid(m, one, grid, laid, plus(m, bias, extra))


def _refuses_pair(m: Match, one: Node, two: Node) -> No | None:
    a, b = _conv(m, one), _conv(m, two)
    if a.groups != b.groups:
        return No(f"one works in {a.groups} groups, the other in {b.groups}")
    if a.mode != b.mode:
        return No(f'one pads with "{a.mode}", the other with "{b.mode}"')
    padded = any((w.left, w.right) != (0, 0) for node in (one, two) for w in _windows(m, node))
    return No(f'the modes of padding differ from zeros: "{a.mode}"') if padded and a.mode != "zeros" else None


def _conv(m: Match, node: Node) -> Conv:
    op = node.op.conv(x_of(m, node).type) if isinstance(node.op, Depthwise) else node.op
    assert isinstance(op, Conv)
    return op


def _windows(m: Match, node: Node) -> tuple[Window, ...]:
    return windows(node.op, x_of(m, node).type)


def _grid(ones: Sequence[Window], twos: Sequence[Window]) -> list[Window] | No:
    """Windows that hold the positions of both, which must count alike."""
    found = []
    for a, b in zip(ones, twos, strict=True):
        if a.axis != b.axis or a.stride != b.stride:
            return No("they slide over other axes or by other strides")
        if not all(isinstance(side, int) for w in (a, b) for side in (w.left, w.right)):
            return No(f"the padding of `{a.name}` depends on its size")
        if a.left + a.right - a.reach != b.left + b.right - b.reach:
            return No(f"one sees more of `{a.name}` than the other")
        step = gcd(*(w.dilation for w in (a, b) if w.kernel > 1), abs(a.left - b.left)) or 1
        left = max(a.left, b.left)
        reach = max(w.reach + left - w.left for w in (a, b))
        found.append(Window(a.axis, reach // step + 1, a.stride, step, left, a.left + a.right - a.reach + reach - left))
    return found


def _laid(m: Match, weight: Value, own: Sequence[Window], grid: Sequence[Window]) -> Value:
    """A kernel on a larger grid, zero where it has no tap."""
    amounts = {}
    for mine, all_ in zip(own, grid, strict=True):
        before = (all_.left - mine.left) // all_.dilation
        if mine.kernel > 1 and mine.dilation != all_.dilation:
            weight = _spread(m, weight, mine, all_, before)
        elif (behind := all_.kernel - mine.kernel - before) or before:
            amounts[mine.name] = (before, behind)
    return m.call("pad", weight, amounts=amounts) if amounts else weight


def _spread(m: Match, weight: Value, own: Window, grid: Window, before: int) -> Value:
    """The taps of a dilated kernel at their places."""
    place = m.call("index", axis=own.name, size=own.kernel)
    place = m.call("add", m.call("mul", place, own.dilation // grid.dilation), before)
    spread = m.call("dot", weight, m.call("one_hot", place, axis="tap", size=grid.kernel), on=(own.name,))
    return m.renamed(spread, tap=own.name)


def _with_grid(m: Match, node: Node, grid: Sequence[Window], weight: Value, offset: Value | None) -> Result:
    """A convolution of a node with another kernel on a grid, or why it cannot be written."""
    axes = [w.name for w in grid]
    fields = {name: _per_axis(axes, [getattr(w, name) for w in grid]) for name in ("kernel", "stride", "dilation")}
    paddings: list[object] = ["same", "valid", "causal", _per_axis(axes, [w.left for w in grid])]
    x, op = x_of(m, node), _conv(m, node)
    for padding in paddings:
        made = op.model_copy(update={**fields, "padding": padding, "bias": False})
        if [(w.left, w.right) for w in windows(made, x.type)] == [(w.left, w.right) for w in grid]:
            name = called(m, node)
            m.call_it(weight, f"{name}_weight")
            offset = offset and m.call_it(offset, f"{name}_bias")
            return m.add(made, None, None, x=x, weight=weight, offset=offset)
    return No("the kernel of both would need another padding on each side")


def _per_axis(axes: Sequence[str], values: Sequence[object]) -> object:
    from archlang.primitive import AxisMap

    return values[0] if len(set(values)) == 1 else AxisMap(tuple(zip(axes, values, strict=True)))


@rule("linear_1(x, ...) + linear_2(x, ...)", "reassociating")
def linears_in_parallel(m: Match) -> Result:
    """W1 x + b1 + W2 x + b2 = (W1 + W2) x + (b1 + b2)."""
    one, two = m.linear_1, m.linear_2
    if contracted(one.op.on, m.x.type) != contracted(two.op.on, m.x.type) or one.op.made(m.x.type) != two.op.made(
        m.x.type
    ):
        return No("they sum over other axes, or make others")
    (weight, bias), (more, extra) = weights(m, one), weights(m, two)
    if set(weight.type.names) != set(more.type.names):
        return No("one weight is flat, the other is not")
    return replaced(m, one, m.call("add", weight, more), plus(m, bias, extra))


# ---- the input itself as a branch
@rule("layer(x, ...) + x", "reassociating", layer=INNER)
def identity_in_parallel(m: Match) -> Result:
    """W x + b + x = (W + 1) x + b."""
    return _with_identity(m, Scaling(None, None))


@rule("layer(x, ...) + share(x, ...)", "reassociating", layer=INNER, share="mul")
def share_in_parallel(m: Match) -> Result:
    """W x + b + a x = (W + a 1) x + b."""
    share = other(m, m.share, m.x)
    if share is None or (isinstance(share, Value) and share.type.names not in ((), ("c",))):
        return None
    return _with_identity(m, Scaling(m.renamed(share, c="units") if isinstance(share, Value) else share, None))


@rule(
    "layer(x, ...) + total(share(x, ...), ...)",
    "reassociating",
    layer=INNER,
    share="mul",
    total="add",
)
def affine_in_parallel(m: Match) -> Result:
    """W x + b + (a x + t) = (W + a 1) x + (b + t)."""
    scale, shift = other(m, m.share, m.x), other(m, m.total, m.result(m.share))
    if (
        not isinstance(scale, Value)
        or not isinstance(shift, Value)
        or (scale.type.names, shift.type.names) != (("c",), ("c",))
    ):
        return None
    return _with_identity(m, Scaling(m.renamed(scale, c="units"), m.renamed(shift, c="units")))


@rule("layer(x, ...) + batch_norm(x)", "reassociating", layer=INNER)
def norm_in_parallel(m: Match) -> Result:
    """W x + b + batch_norm(x) = (W + s 1) x + (b + t)."""
    if m.batch_norm.op.on != "c":
        return No(f"the norm is over {m.batch_norm.op.on}")
    return _with_identity(m, Scaling(*scaling(m, m.batch_norm, "units")))


def _with_identity(m: Match, by: Scaling) -> Result:
    """The layer with a scaled identity in its kernel."""
    node = m.layer
    if isinstance(axis := entrance(m, node), No):
        return axis
    (weight, bias), c = weights(m, node), m.x.type.size("c")
    groups = 1 if isinstance(node.op, Linear) else _conv(m, node).groups
    one = _identity(m, axis if isinstance(node.op, Linear) else "c", c, groups)
    one = one if by.scale is None else m.call("mul", one, by.scale)
    if not isinstance(node.op, Linear):
        found = _windows(m, node)
        if any(w.stride != 1 or not isinstance(w.left, int) or w.left % w.dilation for w in found):
            return No("no tap of the kernel sees the position itself")
        one = _centred(m, one, found)
    return replaced(m, node, m.call("add", weight, one), plus(m, bias, by.shift))


def _identity(m: Match, axis: str, c: int, groups: int) -> Value:
    """1 where a unit and a channel of its group are the same, over units and `axis`."""
    place = m.call("index", axis="units", size=c)
    place = place if groups == 1 else m.call("mod", place, c // groups)
    return m.call("one_hot", place, axis=axis, size=c // groups)


def _centred(m: Match, one: Value, found: Sequence[Window]) -> Value:
    """A kernel that is `one` at the tap that sees the position itself, and 0 elsewhere."""
    one = m.call_it(m.call("expand", one, sizes={w.name: 1 for w in found}), "identity")
    return _laid(m, one, [replace(w, kernel=1, left=0) for w in found], found)


# ---- chains
@rule("linear_2(linear_1(x, ...), ...)", "reassociating")
def linears_in_a_row(m: Match) -> Result:
    """W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2), where that takes no more multiplications."""
    if refusal := _refuses_row(m, m.linear_1, m.linear_2):
        return refusal
    before, inner, after = (m.x.type.size("c"), m.linear_1.op.units, m.linear_2.op.units)
    if (one := before * after) > (two := inner * (before + after)):
        return No(f"one map takes {one} multiplications at each position, both {two}")
    return _product(m, m.linear_1, m.linear_2)


def _refuses_row(m: Match, first: Node, second: Node) -> No | None:
    for node in (first, second):
        if contracted(node.op.on, x_of(m, node).type) != ("c",) or isinstance(node.op.units, tuple):  # type: ignore[attr-defined]
            return No("they sum over, or make, other axes than c")
    return None


def _product(m: Match, first: Node, second: Node) -> Value:
    """The linear map of two in a row."""
    return replaced(m, second, *_multiplied(m, first, second), x_of(m, first))


def _multiplied(m: Match, first: Node, second: Node) -> tuple[Value, Value | None]:
    (inner, low), (outer, bias) = weights(m, first), weights(m, second)
    met = next(name for name in outer.type.names if name in ("on", "c"))
    outer = m.renamed(outer, **{met: "met"})
    weight = m.call("dot", outer, m.renamed(inner, units="met"), on=("met",))
    moved = low and m.call("dot", outer, m.renamed(low, units="met"), on=("met",))
    return weight, plus(m, bias, moved)


@rule("linear_1(x, ...) + linear_3(linear_2(x, ...), ...)", "reassociating")
def low_rank_in_parallel(m: Match) -> Result:
    """W x + b + B (A x) = (W + B A) x + b: a LoRA, merged."""
    if refusal := _refuses_row(m, m.linear_2, m.linear_3) or _refuses_row(m, m.linear_1, m.linear_1):
        return refusal
    (weight, bias), (more, extra) = weights(m, m.linear_1), _multiplied(m, m.linear_2, m.linear_3)
    if set(weight.type.names) != set(more.type.names):
        return No("one weight is flat, the other is not")
    return replaced(m, m.linear_1, m.call("add", weight, more), plus(m, bias, extra), m.x)


@rule("conv_2(conv_1(x, ...), ...)", "reassociating")
def kernels_in_a_row(m: Match) -> Result:
    """W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2), one of them 1 x 1, where that takes no more multiplications."""
    first, second = m.conv_1, m.conv_2
    if refusal := refuses(m, first) or refuses(m, second):
        return refusal
    if first.op.groups != 1 or second.op.groups != 1:
        return No("a convolution in groups mixes only these")
    (inner, low), (outer, bias) = weights(m, first), weights(m, second)
    small = [all(w.kernel == 1 and not w.moves for w in _windows(m, node)) for node in (first, second)]
    if not any(small):
        return No("both kernels have several taps")
    padded = any((w.left, w.right) != (0, 0) for w in _windows(m, second))
    if not small[1] and padded and low is not None:
        return No("the zeros around the map get no bias of the first")
    if (refusal := _refuses_cost(inner, outer)) is not None:
        return refusal
    outer, names = m.renamed(outer, c="met"), [w.name for w in _windows(m, first)]
    point, taps = (outer, m.renamed(inner, units="met")) if small[1] else (m.renamed(inner, units="met"), outer)
    for name in names:
        point = m.call("select", point, axis=name, index=0)
    weight = m.call("dot", point, taps, on=("met",))
    moved = low and m.call("sum", m.call("dot", outer, m.renamed(low, units="met"), on=("met",)), on=tuple(names))
    held = first if small[1] else second
    made = _conv(m, held).model_copy(update={"units": second.op.units, "bias": False})
    m.call_it(weight, f"{called(m, second)}_weight")
    offset = plus(m, bias, moved)
    offset = offset and m.call_it(offset, f"{called(m, second)}_bias")
    return m.add(made, second, None, x=m.x, weight=weight, offset=offset)


def _refuses_cost(inner: Value, outer: Value) -> No | None:
    """Why one kernel would cost more than two."""
    one, two = (prod(int(str(axis.size)) for axis in value.type) for value in (inner, outer))
    met, met2 = inner.type.size("units"), outer.type.size("c")
    assert met == met2
    whole = one * two // (int(str(met)) ** 2)
    return (
        No(f"one kernel takes {whole} multiplications at each position, both {one + two}")
        if whole > one + two
        else None
    )


RULES: tuple[Rule, ...] = (
    kernels_in_parallel,
    linears_in_parallel,
    identity_in_parallel,
    share_in_parallel,
    affine_in_parallel,
    norm_in_parallel,
    low_rank_in_parallel,
    linears_in_a_row,
    kernels_in_a_row,
)
