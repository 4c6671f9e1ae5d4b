"""Attention that goes on where the last call stopped: keys and values of the past before those of the positions at
hand.
"""

from dataclasses import replace

from archlang.primitive import Emission, Term
from archlang.primitives.attention_code import Work, form
from archlang.primitives.attention_dense import dense
from archlang.primitives.attention_steps import kept, moving
from archlang.primitives.domain import Full
from archlang.primitives.near import Chunks, Near


def resumed(code: Emission, work: Work) -> Term:
    """All of the past where it is seen, else its last positions."""
    q, k, v = work.qkv
    work = replace(work, qkv=(q, _behind_past(code, work, k, 1), _behind_past(code, work, v, 2)))
    bounds = _bounds(code, work)
    if not bounds.keys() - {"reach"} and work.bias is None and not work.scored and not work.extra:
        return dense(code, replace(work, past=bounds))
    (time,) = work.parts.keys
    sizes = f"{code.size(time.size)}, {work.qkv[1].code}.shape[-2]"
    given = ", ".join([sizes, f"device={code.device()}", *(f"{name}={text}" for name, text in bounds.items())])
    pair = (time.name, f"{time.name}_key")
    mask = code.bind(Term(f"{code.helper('past_mask')}({given})", pair), "mask", part=True)
    bias = work.bias and _by_pair(code, work, work.bias, sizes)
    return dense(code, replace(work, domain=Full(), mask=mask, bias=bias))


def _behind_past(code: Emission, work: Work, x: Term, place: int) -> Term:
    """Keys or values [batch, heads, t, c] behind those of the past."""
    type_, (time,), part = code.inputs[place], work.parts.keys, moving(work.domain)
    order = tuple(axis.name for axis in (*work.parts.batch, *work.parts.heads) if axis.name in x.order)
    x, label = code.permute(x, (*order, time.name, "c")), ("keys", "values")[place - 1]
    lead = [None, *(type_.size(name) for name in order[1:])]
    if isinstance(part, Near):
        held = code.carried(label, "RecentPast", *lead, kept(part, work.parts), type_.size("c"), along=time)
        return code.bind(Term(f"{held}({x.code})", x.order), label, part=True)
    held = code.carried(label, "PastCache", *lead, None, type_.size("c"), along=time)
    return code.bind(Term(f"{held}({x.code}, {code.past(time)})", x.order), label, part=True)


def _bounds(code: Emission, work: Work) -> dict[str, str]:
    """What bounds a query beside the present, as arguments of `past_mask`."""
    part, (time,) = moving(work.domain), work.parts.keys
    if isinstance(part, Chunks):
        return {"chunk": code.size(part.size), "past": code.past(time)}
    if not isinstance(part, Near):
        return {}
    step = part.span(work.parts.keys, time).step
    return {"reach": code.size(kept(part, work.parts))} | ({"step": code.size(step)} if step != 1 else {})


def _by_pair(code: Emission, work: Work, bias: Term, sizes: str) -> Term:
    """A bias by the offset of a key as one for every query and key."""
    if form(bias.order, work.parts) != "offset":
        return bias
    (time,), (offset,) = work.parts.keys, work.parts.offsets
    part = moving(work.domain)
    step = part.span(work.parts.keys, time).step if isinstance(part, Near) else 1
    bias = code.last(bias, (offset,))
    given = f"{bias.code}, {sizes}{code.option(step, 1)}"
    return Term(f"{code.helper('past_bias')}({given})", (*bias.order[:-1], time.name, f"{time.name}_key"))
