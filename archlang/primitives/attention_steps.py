"""Attention one position of time after another: keys and values that are still seen, as a ring."""

from collections.abc import Mapping
from typing import Any

from archlang.named import Named
from archlang.primitive import Types
from archlang.primitives.attention_code import SEGMENTS, Layout, form, layout, whole
from archlang.primitives.attention_meaning import meaning
from archlang.primitives.attention_score import most
from archlang.primitives.domain import Causal, Domain, Full
from archlang.primitives.near import Chunks, Near
from archlang.shapes import TensorType
from archlang.sizes import Size, minimum


def memory(op: Any, *types: Any) -> dict[str, TensorType]:
    """As many keys and values as a later query may see. Nothing where a bias or mask asks for positions."""
    q, k, v, bias, mask = types[:5]
    kept_out = mask is not None or types[SEGMENTS] is not None
    parts = layout(op.on, q, k, v)
    if len(parts.keys) != 1 or parts.keys[0].role != "time" or not parts.queries or kept_out:
        return {}
    part = moving(op.domain(parts))
    if part is None or (bias is not None and form(bias.names, parts) not in _forms(part)):
        return {}
    time, count = parts.keys[0], kept(part, parts)
    if isinstance(time.size, int) or not isinstance(count, int):  # else a ring, however long the sequence is
        count = minimum(count, time.size)
    return {"k": k.resized(**{time.name: count}), "v": v.resized(**{time.name: count})}


def _forms(part: Domain) -> tuple[str, ...]:
    """How a bias may say where it holds; where all of the past is kept, its positions are known."""
    return ("offset", "none") if isinstance(part, Near) else ("offset", "none", "cell")


def moving(domain: Domain) -> Domain | None:
    """The one domain that bounds how far back a query sees; None where that is no one of the past."""
    parts = [part for part in domain.parts() if not isinstance(part, Full)]
    near = [part for part in parts if isinstance(part, Near)]
    if len(near) > 1 or not parts or any(not isinstance(part, Causal | Near) or part.disc() for part in parts):
        return None
    return near[0] if near else parts[0]


def kept(part: Domain, parts: Layout) -> Size:
    """How many positions back matter, the query's own included."""
    (time,) = parts.keys
    if not isinstance(part, Near):
        return time.size
    span = part.span(parts.keys, time)
    return (span.count - 1) * span.step + 1


def step(
    op: Any, types: Types, state: Mapping[str, Named], q: Named, k: Named, v: Named, *extras: Named | None
) -> tuple[Named, dict[str, Named]]:
    """The result at one position, and the keys and values up to it."""
    parts = layout(op.on, *types.inputs[:3])
    (time,), part = parts.keys, moving(op.domain(parts))
    assert part is not None
    limit = whole(minimum(kept(part, parts), time.size))
    full = isinstance(part, Chunks) and state and state["k"].size(time.name) == limit  # the next block begins
    ring = {
        name: _last(x if not state or full else _behind(state[name], x, time.name), time.name, limit)
        for name, x in (("k", k), ("v", v))
    }
    gap = whole(part.span(parts.keys, time).step) if isinstance(part, Near) else 1
    length = ring["k"].size(time.name)
    places = list(range((length - 1) % gap, length, gap))
    seen = {name: x.select(time.name, places) for name, x in ring.items()}
    bias = _at_last(_by_age(extras[0] if extras else None, parts, len(places)), parts, len(places))
    now = tuple(
        None
        if given is None
        else given.resized(**{time.name: len(places) if i in (1, 2) else 1})
        if time.name in given
        else given
        for i, given in enumerate(types.inputs)
    )
    alone = op.model_copy(update={"over": Full(), "on": (time.name,)})
    count = whole(most(op, types.inputs, parts))
    return meaning(alone, Types(now, types.outputs), q, seen["k"], seen["v"], bias, *extras[1:], count=count), ring


def _behind(old: Named, new: Named, axis: str) -> Named:
    import torch

    return Named(torch.cat([old.tensor, new.to(old.names)], old.at(axis)), old.names)


def _last(x: Named, axis: str, count: int) -> Named:
    return x.select(axis, slice(max(0, x.size(axis) - count), None))


def _at_last(bias: Named | None, parts: Layout, count: int) -> Named | None:
    """A bias over queries and keys for the last of so many positions."""
    if bias is None:
        return bias
    bias = bias.select("query", count - 1) if "query" in bias.names else bias
    return bias.select("key", slice(0, count)).rename(key=parts.names[0]) if "key" in bias.names else bias


def _by_age(table: Named | None, parts: Layout, count: int) -> Named | None:
    """A bias by offset for keys of the past, the newest last."""
    (name,) = parts.offsets
    if table is None or name not in table.names:
        return table
    middle = table.size(name) // 2
    rows = [max(0, middle - age) for age in reversed(range(count))]
    return table.select(name, rows).rename(**{name: parts.names[0]})
