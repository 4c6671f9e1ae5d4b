"""Attention where every query has all keys beside it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from archlang.primitive import Emission, Term
from archlang.primitives.attention_code import (
    EXTRA,
    Layout,
    Work,
    apart,
    arrange,
    cell,
    domain_mask,
    extra_axes,
    is_causal,
    is_concrete,
    key_axes,
    over_pairs,
    pairs,
    whole,
)
from archlang.shapes import Axis
from archlang.sizes import product

Batches: TypeAlias = Mapping[str, Sequence[Axis]]  # the axes that pieces are of, in groups
# So many keys, and softmax written out is faster on a CPU than the fused kernel, by a fifth where it trains; with a
# bias, which that kernel reads for every query, by a seventh at 144 keys and by half where it only evaluates.
SHORT, SHORT_BIASED = 64, 144


def is_long(keys: Iterable[Axis], biased: bool = False) -> bool:
    """Whether the fused kernel is the faster one."""
    most = SHORT_BIASED if biased else SHORT
    return not is_concrete(keys) or whole(product(axis.size for axis in keys)) > most


def is_short(kernel: str | None, keys: Iterable[Axis], biased: bool = False) -> bool:
    """Whether softmax over all of these keys is written out."""
    return not is_long(keys, biased) if kernel is None else kernel == "written"


def rows_of(parts: Layout, everything: bool) -> list[Axis]:
    """The axes that count queries; those of the queries alone too, where each sees every key."""
    return [*parts.queries, *(axis for axis in parts.extra if everything and axis.role != "free")]


def dense(code: Emission, work: Work) -> Term:
    """`F.scaled_dot_product_attention`, or what has its signature, over [batch, heads, query, c]."""
    parts = work.parts
    names = {name for term in (work.bias, work.mask) if term is not None for name in term.order}
    everything = not names and not any(work.domain.restricts(parts.keys, axis) for axis in parts.keys)
    rows = rows_of(parts, everything)
    batch = [axis for axis in parts.batch if axis not in rows]
    shared = [axis for axis in parts.heads if axis not in parts.extra]
    grouped = len(shared) < len(parts.heads) and not any(axis.name in names for axis in parts.heads) and not work.scored
    flags = dict(work.options)
    written = _is_written(work) and not grouped
    spread = written and {axis.name for axis in batch} & names
    batches = {axis.name: [axis] for axis in batch} if spread else {"*batch": batch}
    if not work.scored and not written:
        flags = {"dropout_p" if name == "drop" else name: text for name, text in flags.items()}
    if grouped and work.past is None:
        flags = {"enable_gqa": "True", **flags}
    plain = not names and not work.extra and not work.scored
    if plain and work.past is not None:
        flags = {**work.past, **flags}
    elif plain and is_causal(work.domain, parts):
        flags = {"is_causal": "True", **flags}
    elif not everything:
        word = "mask" if work.scored else "bias" if written else "attn_mask"
        flags = {word: _attn_mask(code, work, batches, fused=not (work.scored or written)), **flags}
    laid = _laid(code, work, batches, rows, parts.heads if not grouped else None, shared)
    function = "F.scaled_dot_product_attention" if work.past is None else code.helper("past_attention")
    if work.scored or written:
        function = code.helper("short_attention" if written else "scored_attention")
    given = [*laid, *(f"{name}={text}" for name, text in {**flags, **work.scored}.items())]
    out = Term(f"{function}({', '.join(given)})", (*batches, "*heads", "*query", "c"))
    out = out if work.past is None else code.bind(out, "o")
    return apart(code, out, {"*query": rows, "*heads": parts.heads, **({} if spread else batches)})


def one_query(code: Emission, work: Work) -> Term:
    """What a kernel takes: q [batch, heads, c], keys and values [batch, places, heads, c] with no more heads than they
    have, bias and mask [batch, heads, 1, places].
    """
    parts, places = work.parts, "*places"
    rows = rows_of(parts, everything=True)
    outer = {"*batch": [axis for axis in parts.batch if axis not in rows]}
    shared = {"*heads": [axis for axis in parts.heads if axis not in parts.extra]}
    query = {"*query": rows} if rows else {}
    laid = arrange(code, work.qkv[0], {**outer, **query, "*heads": parts.heads, "c": [code.inputs[0]["c"]]})
    given = [code.split(laid, "*query", ()).code if rows else laid.code]
    for x, type_ in zip(work.qkv[1:], code.inputs[1:3], strict=True):
        given.append(arrange(code, x, {**outer, places: parts.keys, **shared, "c": [type_["c"]]}).code)
    for name, term in (("bias", work.bias), ("mask", work.mask)):
        if term is not None:
            term = over_pairs(term, parts)
            queries, keys = cell(term) or (rows, key_axes(parts.keys))
            groups = {**outer, "*heads": parts.heads, "*query": queries, "*key": keys}
            given.append(f"{name}={arrange(code, term, groups).code}")
    given += [f"{name}={text}" for name, text in {**work.options, **work.scored}.items()]
    text = f"{code.helper('decode_attention')}({', '.join(given)})"
    out = Term(f"{text}[:, None]" if rows else text, (*outer, *query, "*heads", "c"))
    return apart(code, out, {**query, "*heads": parts.heads, **outer})


def _is_written(work: Work) -> bool:
    """Whether every query sees every key, with no more than a bias, and products of matrices are the faster way."""
    keys, biased = work.parts.keys, work.bias is not None
    if work.mask is not None or work.scored or work.extra or any(work.domain.restricts(keys, a) for a in keys):
        return False
    return is_short(work.kernel, keys, biased) and (biased or work.kernel is not None)


def _laid(
    code: Emission,
    work: Work,
    batches: Batches,
    rows: Sequence[Axis],
    heads: Sequence[Axis] | None,
    shared: Sequence[Axis],
) -> list[str]:
    """q, k and v as [batch, heads, places, c]; `heads` is None where k and v have fewer."""
    laid = []
    for place, (x, own) in enumerate(zip(work.qkv, (work.parts.heads, shared, shared), strict=True)):
        groups = {**batches, "*heads": own if heads is None else heads, "c": [code.inputs[place]["c"]]}
        text = _arranged(code, x, groups, rows if place == 0 else work.parts.keys)
        if work.extra and place > 0:
            type_ = code.inputs[EXTRA + place - 1]
            beside = _arranged(code, work.extra[place - 1], groups, extra_axes(work.parts, type_))
            text = f"{code.helper('append_keys')}({text}, {beside})"
        laid.append(text)
    return laid


def _arranged(code: Emission, x: Term, groups: dict[str, Sequence[Axis]], places: Sequence[Axis]) -> str:
    return arrange(code, x, {n: g for n, g in groups.items() if n != "c"} | {"*places": places, "c": groups["c"]}).code


def _attn_mask(code: Emission, work: Work, batches: Batches, fused: bool) -> str:
    """One mask of the domain, the mask and the bias: bool, or float where there is a bias."""
    keys = work.parts.keys
    concrete, beside = is_concrete(keys), work.beside_count(code)
    own = domain_mask(code, work.domain, keys, "" if concrete else f", device={code.device()}")
    masks = [code.buffer("mask", own.code) if concrete else code.bind(own, "mask", part=True).safe] if own else []
    if work.mask is not None:
        given = pairs(code, work.parts, batches, work.mask, fused)
        masks += [given.safe if masks else given.code]
    if work.bias is None:
        text = " & ".join(masks)
        return f"F.pad({text}, (0, {beside}), value=True)" if beside else text
    biased = pairs(code, work.parts, batches, work.bias, fused).code
    text = f'torch.where({" & ".join(masks)}, {biased}, float("-inf"))' if masks else biased
    return f"F.pad({text}, (0, {beside}))" if beside else text
