"""Attention to what is near: tiles of queries beside the keys that one of them sees."""

from collections.abc import Sequence
from dataclasses import replace

from archlang.primitive import Emission, Term
from archlang.primitives.attention_cells import on_map
from archlang.primitives.attention_code import (
    BIAS,
    Work,
    apart,
    arrange,
    cell,
    form,
    is_concrete,
    kept_apart,
    key_axes,
    over_pairs,
    tuple_of,
)
from archlang.primitives.near import Span, bounds, spans, tiling
from archlang.shapes import Axis


def near(code: Emission, work: Work) -> Term:
    """A helper takes q, k, v as [batch, *map, heads, c]."""
    parts = work.parts
    tiles, axes = _tiles(code, work)
    flags = dict(work.options)
    if (core := work.core(code, "fused_attention")) != "fused_attention":
        flags["core"] = core
    given = [*on_map(code, work), tiles, _mask(code, work, tiles, axes)]
    named = [*given, *(f"{name}={text}" for name, text in flags.items())]
    space = {axis.name: [axis] for axis in parts.keys}
    out = Term(f"{code.helper('local_attention')}({', '.join(named)})", ("*batch", *space, "*heads", "c"))
    return apart(code, out, {"*heads": parts.heads, "*batch": parts.batch})


def _tiles(code: Emission, work: Work) -> tuple[str, str]:
    """The map in tiles, and its axes where a mask or bias needs them: held by the module where sizes are known and
    nothing else is needed, else made in `forward`.
    """
    keys, disc = work.parts.keys, work.domain.disc() if len(work.parts.keys) > 1 else None
    offsets = work.bias is not None and form(work.bias.order, work.parts) == "offset"
    pairs = work.mask is not None or work.segments is not None or (work.bias is not None and not offsets)
    fixed = is_concrete(keys) and not pairs
    device = "" if fixed else f", device={code.device()}"
    axes = f"[{', '.join(_axis(code, work, axis, device) for axis in keys)}]"
    named = {"radius": code.size(disc)} if disc is not None else {}
    if offsets:
        named["table"] = tuple_of(code, [code.inputs[BIAS][name].size for name in work.parts.offsets])
    if fixed:
        return code.module("FixedTiles", axes, **named), ""
    axes = code.bind(Term(axes, ()), "near", part=True).code if pairs else axes
    given = ", ".join([axes, *(f"{name}={text}" for name, text in named.items())])
    return code.bind(Term(f"{code.helper('MapTiles')}({given})", ()), "tiles", part=True).code, axes


def in_one_call(code: Emission, work: Work) -> Term:
    """What a kernel takes: the bounds of every axis, and the tensors as they are."""
    parts = work.parts
    tiles = code.bind(Term(f"[{', '.join(_bounded(code, work, axis) for axis in parts.keys)}]", ()), "near", part=True)
    flags = dict(work.options) | dict(work.scored)
    if work.bias is not None:
        offsets = {name: [Axis(name, 1, "free")] for name in parts.offsets}
        flags["table"] = arrange(code, work.bias, {"*heads": parts.heads, **offsets}).code
    space = {axis.name: [axis] for axis in parts.keys}
    if work.mask is not None:
        flags["mask"] = arrange(code, work.mask, {"*batch": parts.batch, **space}).code
    if work.segments is not None:
        flags["segments"] = arrange(code, work.segments, {"*batch": parts.batch, **space}).code
    if len(parts.keys) > 1 and (disc := work.domain.disc()) is not None:
        flags["radius"] = code.size(disc)
    given = [*on_map(code, work, shared=True), tiles.code, *(f"{name}={text}" for name, text in flags.items())]
    out = Term(f"{code.helper('near_attention')}({', '.join(given)})", ("*batch", *space, "*heads", "c"))
    return apart(code, out, {"*heads": parts.heads, "*batch": parts.batch})


def _bounded(code: Emission, work: Work, axis: Axis) -> str:
    """What bounds one axis, and its tiles in PyTorch."""
    cut, found = tiling(work.domain, work.parts.keys, axis), bounds(work.domain, work.parts.keys, axis)
    assert found is not None
    flags = {"tile": cut.tile, "width": cut.width, **found}
    if cut.lead is not None:
        flags["lead"] = cut.lead
    if cut.step != 1:
        flags["step"] = cut.step
    return f"{code.helper('NearAxis')}({', '.join(f'{name}={code.size(value)}' for name, value in flags.items())})"


def _axis(code: Emission, work: Work, axis: Axis, device: str) -> str:
    """One axis in tiles."""
    axes = work.parts.keys
    found = spans(work.domain, axes, axis) or [Span("band_span", (axis.size - 1, axis.size - 1), axis.size)]
    texts = [_span(code, span, axis, device) for span in found]
    text = texts[0] if len(texts) == 1 else f"{code.helper('span_overlap')}({', '.join(texts)})"
    cut = tiling(work.domain, axes, axis)
    named = [f"tile={code.size(cut.tile)}", f"width={code.size(cut.width)}"]
    if cut.step != 1:
        named.append(f"step={code.size(cut.step)}")
    if cut.lead is not None:
        named.append(f"lead={code.size(cut.lead)}")
    return f"{code.helper('AxisTiles')}({', '.join([text, *named])})"


def _span(code: Emission, span: Span, axis: Axis, device: str) -> str:
    given = [str(item) if isinstance(item, bool) else code.size(item) for item in (axis.size, *span.arguments)]
    return f"{code.helper(span.helper)}({', '.join(given)}{device})"


def _mask(code: Emission, work: Work, tiles: str, axes: str) -> str:
    """What is seen, as a bool, or the bias, -inf where nothing is."""
    masks = [f"{tiles}.seen"]
    if work.mask is not None:
        masks.append(_keys(code, work, work.mask, axes) or _by_pair(code, work, work.mask, axes))
    if work.segments is not None:
        masks.append(_documents(code, work, work.segments, axes))
    seen = " & ".join(masks)
    if work.bias is None:
        return seen
    offsets = form(work.bias.order, work.parts) == "offset"
    bias = _by_offset(code, work, work.bias, tiles) if offsets else _by_pair(code, work, work.bias, axes)
    return f'torch.where({seen}, {bias}, float("-inf"))'


def _keys(code: Emission, work: Work, mask: Term, axes: str) -> str:
    """A mask of keys in tiles; empty for another."""
    if form(mask.order, work.parts) != "key":
        return ""
    groups = {"*batch": work.parts.batch, **{axis.name: [axis] for axis in work.parts.keys}}
    return f"{code.helper('keys_in_tiles')}({arrange(code, mask, groups).code}, {axes})"


def _documents(code: Emission, work: Work, segments: Term, axes: str) -> str:
    """Which keys in tiles are of the document of a query, which may differ from head to head."""
    if not any(axis.name in segments.order for axis in work.parts.heads):
        groups = {"*batch": work.parts.batch, **{axis.name: [axis] for axis in work.parts.keys}}
        return f"{code.helper('segments_in_tiles')}({arrange(code, segments, groups).code}, {axes})"
    mask = kept_apart(code, replace(work, mask=None)).mask
    assert mask is not None
    return _by_pair(code, work, mask, axes)


def _by_pair(code: Emission, work: Work, term: Term, axes: str) -> str:
    """A bias or mask over pairs in tiles."""
    parts, term = work.parts, over_pairs(term, work.parts)
    outer: dict[str, Sequence[Axis]] = {"*batch": parts.batch, "*heads": parts.heads}
    if sides := cell(term):
        space = tuple_of(code, [axis.size for axis in parts.keys])
        flat = arrange(code, term, {**outer, "*query": sides[0], "*key": sides[1]})
        laid = f"{flat.safe}.unflatten(3, {space}).unflatten(2, {space})" if len(parts.keys) > 1 else flat.code
    else:
        alone = {axis.name: [axis] for axis in (*parts.queries, *key_axes(parts.keys))}
        laid = arrange(code, term, {**outer, **alone}).code
    return f"{code.helper('pairs_in_tiles')}({laid}, {axes})"


def _by_offset(code: Emission, work: Work, table: Term, tiles: str) -> str:
    """A table of biases by offset in tiles."""
    offsets = {name: [Axis(name, 1, "free")] for name in work.parts.offsets}
    laid = arrange(code, table, {"*batch": work.parts.batch, "*heads": work.parts.heads, **offsets})
    return f"{code.helper('offset_bias')}({laid.code}, {tiles}.offsets)"
