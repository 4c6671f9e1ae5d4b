"""What attention means: every query with every key, in named axes."""

from collections.abc import Sequence
from typing import Any

from archlang.named import Named
from archlang.primitive import Types
from archlang.primitives.attention_code import Layout, extra_axes, form, layout, whole
from archlang.primitives.attention_score import most
from archlang.primitives.domain import cells_of, extents
from archlang.primitives.near import reaches
from archlang.primitives.score import Softmax


def meaning(
    op: Any, types: Types, q: Named, k: Named, v: Named, *extras: Named | None, count: int | None = None
) -> Named:
    """The sum of values by their weights. `count` is the number of keys seen at most, where it is not that of `op`."""
    given = (*extras, *[None] * (9 - len(extras)))
    bias, mask, scale, sink, logit_mix, weight_mix, k_extra, v_extra, segments = given
    parts = layout(op.on, *types.inputs[:3])
    sides = dict(zip(parts.names, parts.places, strict=True))
    logits = logits_of(op, q, k.rename(**sides), scale, logit_mix)
    if bias is not None:
        logits = logits + spread(op, parts, bias)
    allowed = seen(op, parts, q)
    allowed = allowed if mask is None else allowed.combine(spread(op, parts, mask), lambda a, b: a & b)
    if segments is not None:
        there = segments.rename(**{name: place for name, place in sides.items() if name in segments.names})
        allowed = allowed.combine(segments.combine(there, lambda a, b: a == b), lambda a, b: a & b)
    cells = [(logits.combine(allowed, lambda s, m: s.masked_fill(~m, float("-inf"))), v.rename(**sides), parts.places)]
    if k_extra is not None and v_extra is not None:
        own = {axis.name: f"{axis.name}_extra" for axis in extra_axes(parts, types.inputs[9])}
        beside = logits_of(op, q, k_extra.rename(**own), scale, logit_mix)
        cells.append((beside, v_extra.rename(**own), tuple(own.values())))
    logit = sink if sink is not None or op.sink is None else Named(q.tensor.new_tensor(float(op.sink)), ())
    count = whole(most(op, types.inputs, parts)) if count is None else count
    weights = weights_of(op, [(s, names) for s, _, names in cells], logit, count)
    parts_ = [(mixed(w, weight_mix) * values).sum(names) for w, (_, values, names) in zip(weights, cells, strict=True)]
    return sum(parts_[1:], start=parts_[0])


def logits_of(op: Any, q: Named, k: Named, scale: Named | None, mix: Named | None) -> Named:
    by = op.scale if op.scale is not None else q.size("c") ** -0.5
    logits = (q * k).sum(["c"]) * (by if scale is None else scale)
    if op.cap is not None:
        logits = logits.map(lambda s: op.cap * (s / op.cap).tanh())
    return mixed(logits, mix)


def mixed(x: Named, mix: Named | None) -> Named:
    """Heads mixed by a matrix from an axis of x to a new one, which takes its place."""
    if mix is None:
        return x
    (own,) = (name for name in mix.names if name in x.names)
    (new,) = (name for name in mix.names if name != own)
    return (x * mix).sum([own]).rename(**{new: own})


def weights_of(op: Any, logits: Sequence[tuple[Named, tuple[str, ...]]], sink: Named | None, count: int) -> list[Named]:
    """The score over all keys."""
    import torch

    if not isinstance(op.score, Softmax):
        return [s.map(lambda x: op.score.weights(x, count)) for s, _ in logits]
    top = None
    for s, names in logits:
        own = s.reduce(lambda x, dim: x.detach().amax(dim).clamp(min=-1e300), names)
        top = own if top is None else top.combine(own, torch.maximum)
    assert top is not None
    top = top if sink is None else top.combine(sink.map(lambda x: x.detach()), torch.maximum)
    raised = [(s - top).map(lambda x: x.exp()) for s, _ in logits]
    sums = [r.sum(names) for r, (_, names) in zip(raised, logits, strict=True)]
    total = sum(sums[1:], start=sums[0])
    total = total if sink is None else total + (sink - top).map(lambda x: x.exp())
    total = total.map(lambda x: x + (x == 0))
    return [r / total for r in raised]


def seen(op: Any, parts: Layout, q: Named) -> Named:
    """Bool over the query and key axes: what the domain lets be seen."""
    import torch

    device = q.tensor.device
    allowed = Named(torch.ones((), dtype=torch.bool, device=device), ())
    domain = op.domain(parts)
    apart = Named(torch.zeros((), dtype=torch.long, device=device), ())  # the square of the distance
    for axis in parts.queries:
        if domain.restricts(parts.keys, axis):
            i = torch.arange(whole(axis.size), device=device)
            names = (axis.name, f"{axis.name}_key")
            allowed = allowed.combine(Named(domain.sees(parts.keys, axis, i[:, None], i), names), lambda a, b: a & b)
            apart = apart + Named((i[:, None] - i).square(), names)
    if (disc := domain.disc()) is not None:
        allowed = allowed.combine(apart.map(lambda x: x < disc**2), lambda a, b: a & b)
    return allowed.combine(
        Named(allowed.tensor.new_ones([whole(a.size) for a in parts.keys]), parts.places), lambda a, b: a & b
    )


def spread(op: Any, parts: Layout, extra: Named) -> Named:
    """A bias or mask over query axes and `NAME_key` axes."""
    shape, kind = [whole(axis.size) for axis in parts.keys], form(extra.names, parts)
    if kind == "key":
        return extra.rename(**dict(zip(parts.names, parts.places, strict=True)))
    if kind == "offset":
        return by_offset(op, parts, extra)
    for side, names in (("query", parts.names), ("key", parts.places)):
        if side in extra.names and kind == "cell":
            kept = tuple(name for name in extra.names if name != side)
            rows = extra.to((*kept, side))[..., places(op, parts)]
            extra = Named(rows.reshape(*rows.shape[:-1], *shape), (*kept, *names))
    return extra


def by_offset(op: Any, parts: Layout, table: Named) -> Named:
    """table[j - i], in steps of the domain from its middle; beyond it nothing is seen."""
    import torch

    steps = [whole(step) for _, step in reaches(op.domain(parts), parts.keys) or ()]
    for axis, name, step in zip(parts.keys, parts.offsets, steps, strict=True):
        if name not in table.names:
            continue
        i, size = torch.arange(whole(axis.size)), table.size(name)
        index = ((i - i[:, None]).div(step, rounding_mode="floor") + size // 2).clamp(0, size - 1)
        kept = tuple(n for n in table.names if n != name)
        table = Named(table.to((*kept, name))[..., index], (*kept, axis.name, f"{axis.name}_key"))
    return table


def places(op: Any, parts: Layout) -> Any:
    """For every position of the map, flattened: its place inside its cell, flattened."""
    import torch

    domain = op.domain(parts)
    cells, flat = cells_of(domain), Named(torch.zeros((), dtype=torch.long), ())
    for axis, size in zip(parts.keys, extents(domain, parts.keys), strict=True):
        i = torch.arange(whole(axis.size))
        flat = flat * whole(size) + Named(cells.place(axis, i) if cells else i, (axis.name,))
    return flat.to(parts.names).flatten()
