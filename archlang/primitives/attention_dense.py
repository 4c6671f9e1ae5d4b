"""Attention where every query has all keys beside it."""

from collections.abc import Iterable, Sequence

from archlang.primitive import Emission, Term
from archlang.primitives.attention_code import (
    EXTRA,
    Work,
    apart,
    arrange,
    domain_mask,
    extra_axes,
    is_causal,
    is_concrete,
    pairs,
    whole,
)
from archlang.shapes import Axis
from archlang.sizes import product

SHORT = 64  # so many keys, and softmax written out is faster on a CPU than the fused kernel (at 49: by half)


def is_long(keys: Iterable[Axis]) -> bool:
    """Whether the fused kernel is the faster one."""
    return not is_concrete(keys) or whole(product(axis.size for axis in keys)) > SHORT


def dense(code: Emission, work: Work) -> Term:
    """`F.scaled_dot_product_attention`, or what has its signature, over [batch, heads, query, c]."""
    parts = work.parts
    names = {name for term in (work.bias, work.mask) if term is not None for name in term.order}
    everything = not names and not any(work.domain.restricts(parts.keys, axis) for axis in parts.keys)
    rows = [*parts.queries, *(axis for axis in parts.extra if everything and axis.role != "free")]
    batch = [axis for axis in parts.batch if axis not in rows]
    shared = [axis for axis in parts.heads if axis not in parts.extra]
    grouped = len(shared) < len(parts.heads) and not any(axis.name in names for axis in parts.heads) and not work.scored
    flags = dict(work.options)
    if not work.scored:
        flags = {"dropout_p" if name == "drop" else name: text for name, text in flags.items()}
    if grouped:
        flags = {"enable_gqa": "True", **flags}
    plain = not names and not work.extra and not work.scored
    if plain and is_causal(work.domain, parts):
        flags = {"is_causal": "True", **flags}
    elif not everything:
        flags = {"mask" if work.scored else "attn_mask": _attn_mask(code, work, batch), **flags}
    laid = _laid(code, work, batch, rows, parts.heads if not grouped else None, shared)
    function = code.helper("scored_attention") if work.scored else "F.scaled_dot_product_attention"
    given = [*laid, *(f"{name}={text}" for name, text in {**flags, **work.scored}.items())]
    out = Term(f"{function}({', '.join(given)})", ("*batch", "*heads", "*query", "c"))
    return apart(code, out, {"*query": rows, "*heads": parts.heads, "*batch": batch})


def _laid(
    code: Emission,
    work: Work,
    batch: Sequence[Axis],
    rows: Sequence[Axis],
    heads: Sequence[Axis] | None,
    shared: Sequence[Axis],
) -> list[str]:
    """q, k and v as [batch, heads, places, c]; `heads` is None where k and v have fewer."""
    laid = []
    for place, (x, own) in enumerate(zip(work.qkv, (work.parts.heads, shared, shared), strict=True)):
        groups = {"*batch": batch, "*heads": own if heads is None else heads, "c": [code.inputs[place]["c"]]}
        text = _arranged(code, x, groups, rows if place == 0 else work.parts.keys)
        if work.extra and place > 0:
            type_ = code.inputs[EXTRA + place - 1]
            beside = _arranged(code, work.extra[place - 1], groups, extra_axes(work.parts, type_))
            text = f"{code.helper('append_keys')}({text}, {beside})"
        laid.append(text)
    return laid


def _arranged(code: Emission, x: Term, groups: dict[str, Sequence[Axis]], places: Sequence[Axis]) -> str:
    return arrange(code, x, {n: g for n, g in groups.items() if n != "c"} | {"*places": places, "c": groups["c"]}).code


def _attn_mask(code: Emission, work: Work, batch: Sequence[Axis]) -> str:
    """One mask of the domain, the mask and the bias: bool, or float where there is a bias."""
    keys = work.parts.keys
    concrete, beside = is_concrete(keys), work.beside_count(code)
    own = domain_mask(code, work.domain, keys, "" if concrete else f", device={code.device()}")
    masks = [code.buffer("mask", own.code) if concrete else code.bind(own, "mask", part=True).safe] if own else []
    masks += [pairs(code, work.parts, batch, work.mask).safe] if work.mask is not None else []
    if work.bias is None:
        text = " & ".join(masks)
        return f"F.pad({text}, (0, {beside}), value=True)" if beside else text
    biased = pairs(code, work.parts, batch, work.bias).code
    text = f'torch.where({" & ".join(masks)}, {biased}, float("-inf"))' if masks else biased
    return f"F.pad({text}, (0, {beside}))" if beside else text
