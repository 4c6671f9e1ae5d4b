"""Attention inside the cells of a partition."""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

from archlang.primitive import Emission, Term
from archlang.primitives.attention_code import (
    Layout,
    Work,
    apart,
    arrange,
    domain_mask,
    form,
    is_concrete,
    key_axes,
    over_pairs,
    tuple_of,
)
from archlang.primitives.attention_dense import is_short
from archlang.primitives.domain import Cells, Domain, Full, Grid, cells_of, extents
from archlang.shapes import Axis


def in_cells(code: Emission, work: Work) -> Term:
    """A helper takes q, k, v as [batch, *map, heads, c]."""
    cells, parts = cells_of(work.domain), work.parts
    assert cells is not None
    window, flags = tuple_of(code, extents(work.domain, parts.keys)), _cut(code, cells, parts)
    biases = [_in_a_cell(code, work, work.bias, window, flags)] if work.bias is not None else []
    border = {"border": _shift_bias(code, parts, window, flags["shift"])} if "shift" in flags else {}
    biases += _inner_bias(code, work.domain, parts)
    flags |= _masked(code, work, biases, window, flags) | border | dict(work.options)
    sizes = [replace(axis, size=size) for axis, size in zip(parts.keys, extents(work.domain, parts.keys), strict=True)]
    biased = bool({"bias", "border", "segments"} & set(flags))
    long = not is_short(work.kernel, sizes, biased)
    kept = work.mask is not None or work.segments is not None
    plain = "F.scaled_dot_product_attention" if work.mask is not None or long else "short_attention"
    if not kept and long and (work.kernel or not biased):
        plain = code.helper("fused_attention")
    if (core := work.core(code, plain, "[:, None]")) != "short_attention":
        flags["core"] = core
    named = [*on_map(code, work), window, *(f"{name}={text}" for name, text in flags.items())]
    space = {axis.name: [axis] for axis in parts.keys}
    out = Term(f"{code.helper('window_attention')}({', '.join(named)})", ("*batch", *space, "*heads", "c"))
    return apart(code, out, {"*heads": parts.heads, "*batch": parts.batch})


def _cut(code: Emission, cells: Cells, parts: Layout) -> dict[str, str]:
    """How a map is cut into cells."""
    flags: dict[str, str] = {}
    if any(moved := [cells.moved(axis) for axis in parts.keys]):
        shift = Term(tuple_of(code, moved), ())
        flags["shift"] = (shift if is_concrete(parts.keys) else code.bind(shift, "shift", part=True)).code
    if isinstance(cells, Grid):
        flags["spread"] = "True"
    elif set(steps := [cells.step(axis) for axis in parts.keys]) != {1}:
        flags["step"] = tuple_of(code, steps)
    return flags


def on_map(code: Emission, work: Work, shared: bool = False) -> list[str]:
    """q, k and v as [batch, *map, heads, c]; k and v have fewer heads where several `shared` ones of q go with one."""
    parts = work.parts
    space = {axis.name: [axis] for axis in parts.keys}
    fewer = [axis for axis in parts.heads if axis not in parts.extra]
    laid = []
    for place, x in enumerate(work.qkv):
        heads = fewer if shared and place > 0 else parts.heads
        groups = {"*batch": parts.batch, **space, "*heads": heads, "c": [code.inputs[place]["c"]]}
        laid.append(arrange(code, x, groups).code)
    return laid


def _masked(code: Emission, work: Work, biases: list[str], window: str, cut: Mapping[str, str]) -> dict[str, str]:
    """The bias of all windows, the mask of keys, and documents."""
    mask, space = work.mask, {axis.name: [axis] for axis in work.parts.keys}
    groups = {"*batch": work.parts.batch, **space, "*heads": work.parts.heads}
    flags = {"bias": " + ".join(biases)} if biases else {}
    if work.segments is not None:
        flags["segments"] = arrange(code, work.segments, groups).code
    if mask is None:
        return flags
    if form(mask.order, work.parts) == "key":
        return {**flags, "mask": arrange(code, mask, groups).code}
    text = f'torch.where({_in_a_cell(code, work, mask, window, cut)}, {flags.get("bias", "0.0")}, float("-inf"))'
    return {**flags, "bias": text if biases else f"{text}.to({code.working()})"}


def _in_a_cell(code: Emission, work: Work, bias: Term, window: str, cut: Mapping[str, str]) -> str:
    """A bias as [heads, query, key], or [batch, 1, heads, query, key] where it has batch axes; one over pairs of
    positions as [batch, cells, heads, query, key].
    """
    parts = work.parts
    if form(bias.order, parts) in ("pair", "key"):
        alone = {axis.name: [axis] for axis in (*parts.queries, *key_axes(parts.keys))}
        laid = arrange(code, over_pairs(bias, parts), {"*batch": parts.batch, "*heads": parts.heads, **alone})
        space = tuple_of(code, [axis.size for axis in parts.keys])
        given = [laid.code, space, window, *(f"{name}={text}" for name, text in cut.items())]
        return f"{code.helper('pairs_in_cells')}({', '.join(given)})"
    rows, columns = [Axis("query", 1, "free")], [Axis("key", 1, "free")]
    groups: dict[str, list[Axis] | tuple[Axis, ...]] = {"*heads": parts.heads, "*query": rows, "*key": columns}
    if any(axis.name in bias.order for axis in parts.batch):
        groups = {"*batch": parts.batch, "*cells": (), **groups}
    return arrange(code, bias, groups).safe


def _shift_bias(code: Emission, parts: Layout, window: str, shift: str) -> str:
    """What keeps apart the two parts of a window that a shift wraps around the border."""
    text = f"{code.helper('shift_bias')}({tuple_of(code, [axis.size for axis in parts.keys])}, {window}, {shift}"
    return (
        code.buffer("shift_bias", f"{text})")
        if is_concrete(parts.keys)
        else f"{text}, dtype={code.working()}, device={code.device()})"
    )


def _inner_bias(code: Emission, domain: Domain, parts: Layout) -> list[str]:
    """What the other domains of a meet forbid inside a cell."""
    cells, sizes = cells_of(domain), extents(domain, parts.keys)
    axes = tuple(replace(axis, size=size) for axis, size in zip(parts.keys, sizes, strict=True))
    others = [part for part in domain.parts() if part is not cells]
    inner = reduce(Domain.meet, others) if others else Full()
    concrete = is_concrete(axes)
    seen = domain_mask(code, inner, axes, "" if concrete else f", device={code.device()}")
    if seen is None:
        return []
    text = f'torch.where({seen.code}, 0.0, float("-inf"))'
    return [code.buffer("mask", text) if concrete else f"{text}.to({code.working()})"]
