"""How linear recurrences are written in PyTorch: the parts that axes play, the size of a chunk, the two algorithms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import log
from typing import Any, Literal, TypeAlias

from archlang.primitive import Emission, Term
from archlang.primitives.attention_code import arrange
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, ceil, product

CHUNK = 32  # positions taken at once: of 16 ... 128 the fastest on CPUs, or within 10 %, for every size of heads
SMALLEST = "1e-30"  # decays below it are taken as it: their logarithm stays finite
RANGE = 120  # of the logarithms of a chunk's decays: half of it on either side of 1 is far from the ends of float32
Ports = Mapping[str, Any]
Results: TypeAlias = Term | tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """What the axes of the inputs say.

    on: the axis along which it runs; lead: all others but channels and factors, in q's order; decay: none, one a head
    (or documents), a key channel or a pair of channels.
    """

    on: Axis
    lead: tuple[Axis, ...]
    decay: Literal["", "head", "key", "pair"]
    beta: bool
    inner: Axis | None


def form(op: Any, *types: TensorType | None) -> Form:
    """Tell the axes of a recurrence apart."""
    on = op.axis(*types)
    apart = {on.name, op.inner, "c", "c_value"}
    lead = {axis.name: axis for type_ in types if type_ is not None for axis in type_ if axis.name not in apart}
    _, k, _, decay, beta, log_decay, segments = (*types, None, None, None, None)[:7]
    inner = k[op.inner] if k is not None and op.inner is not None else None
    return Form(on, tuple(lead.values()), _decay(log_decay or decay or segments), beta is not None, inner)


def _decay(decay: TensorType | None) -> Literal["", "head", "key", "pair"]:
    if decay is None:
        return ""
    return "pair" if "c_value" in decay else "key" if "c" in decay else "head"


def length_of(parts: Form) -> Size:
    """Positions, each as often as there are factors."""
    return product([parts.on.size, parts.inner.size if parts.inner else 1])


def chunk_of(op: Any, parts: Form) -> int:
    """Positions that are taken at once: no more than a short sequence has."""
    length = length_of(parts)
    if op.chunk is not None:
        chunk: int = op.chunk
        return chunk
    return min(CHUNK, 1 << (length - 1).bit_length()) if isinstance(length, int) else CHUNK


def is_stepwise(parts: Form) -> bool:
    """Whether one position is taken after another: a decay of pairs has no other form, one position needs none."""
    return parts.decay == "pair" or parts.on.size == 1


def is_bounded(op: Any, parts: Form) -> bool:
    """Whether decays a key channel can be divided out inside a chunk without leaving the range of float32."""
    return parts.decay == "key" and op.least > 0 and -log(op.least) * chunk_of(op, parts) <= RANGE


# ---- what is counted
def chunked_macs(op: Any, parts: Form, *types: TensorType | None) -> Size:
    """Multiply-accumulates of the matrix products of `chunked`."""
    q, k, v, decay, beta, log_decay = (*types, None, None, None)[:6]
    decay = log_decay or decay
    assert k is not None
    assert v is not None
    chunk, keys, values = chunk_of(op, parts), k.size("c"), v.size("c")
    rows = ceil(length_of(parts) / Fraction(chunk)) * chunk
    by_channel = parts.decay == "key" and keys != 1 and not is_bounded(op, parts)
    inside: Size = Fraction(chunk - 1, 2) * keys if by_channel else chunk * keys

    def lead(*these: TensorType | None) -> Size:
        names = {axis.name for type_ in these if type_ is not None for axis in type_}
        return product(axis.size for axis in parts.lead if axis.name in names)

    gate = decay if by_channel else None
    scores, out = lead(q, k, gate), lead(*types)
    work = scores * inside + out * (chunk + 2 * keys) * values
    if parts.beta:
        system, written = lead(k, decay, beta), lead(k, v, decay, beta)
        work = work + lead(k, gate) * inside + (out * keys + written * chunk) * values + system * chunk * keys
    return work * rows


def stepwise_macs(parts: Form, *types: TensorType | None) -> Size:
    """What is read of a state at each position, by the query and, for the delta rule, by the key."""
    _, k, v = types[:3]
    assert k is not None
    assert v is not None
    state = product(axis.size for axis in parts.lead) * k.size("c") * v.size("c")
    return state * length_of(parts) * (2 if parts.beta else 1)


# ---- PyTorch
def chunked(op: Any, code: Emission, parts: Form, ports: Ports) -> Results:
    """Chunks by matrix products."""
    return _written(op, code, parts, ports, _core(parts), _chunks(op, code, parts))


def _core(parts: Form) -> str:
    return "delta_rule" if parts.beta else "linear_recurrence"


def _chunks(op: Any, code: Emission, parts: Form) -> dict[str, str]:
    """How positions are taken together."""
    named = {} if chunk_of(op, parts) == CHUNK else {"chunk": code.const(chunk_of(op, parts))}
    return named | ({"bounded": "True"} if is_bounded(op, parts) else {})


def stepwise(op: Any, code: Emission, parts: Form, ports: Ports) -> Results:
    """One position after another."""
    return _written(op, code, parts, ports, "recurrence_steps", {})


def resumed(op: Any, code: Emission, parts: Form, ports: Ports) -> Results:
    """From the state of the position before."""
    parts = replace(parts, lead=tuple(sorted(parts.lead, key=lambda axis: axis.role != "batch")))
    _, k, v = code.inputs[:3]
    sizes = [axis.size for axis in parts.lead[1:]]
    last = code.carried("last", "CarriedState", None, *sizes, k.size("c"), v.size("c"))
    more = {} if is_stepwise(parts) else {**_chunks(op, code, parts), "core": code.helper(_core(parts))}
    alone = code.standing_in(op, *(_alone(type_, parts.on) for type_ in code.inputs))
    more |= {"steps": alone.helper("recurrence_steps")} if alone.kernel("recurrence_steps") else {}
    return _written(op, code, parts, ports, "resumed_recurrence", more, last)


def _alone(type_: TensorType | None, on: Axis) -> TensorType | None:
    """An input at one position."""
    return type_.resized(**{on.name: 1}) if type_ is not None else None


def _written(
    op: Any, code: Emission, parts: Form, ports: Ports, helper: str, more: Mapping[str, str], *first: str
) -> Results:
    """The call of a helper that takes q, k, v as [*lead, t, c], and what follows."""
    ports = _logarithmic(ports)
    laid = {name: _laid(op, code, parts, name, x) for name, x in ports.items() if name != "segments"}
    if "segments" in ports:
        starts = _starts(op, code, parts, ports["segments"])
        known = laid.get("log_decay")
        laid["log_decay"] = (
            f'{known}.masked_fill({starts}, float("-inf"))' if known else f'torch.where({starts}, float("-inf"), 0.0)'
        )
    named: dict[str, str] = {name: laid.pop(name) for name in ("beta", "log_decay", "start") if name in laid}
    named |= {"scale": code.const(float(op.scale))} if op.scale != 1 else {}
    named |= {"final": "True"} if op.final else {}
    arguments = [*first, *laid.values(), *(f"{name}={text}" for name, text in (named | dict(more)).items())]
    text, lead = f"{code.helper(helper)}({', '.join(arguments)})", tuple(axis.name for axis in parts.lead)
    made = (*lead, parts.on.name, "c")
    if not op.final:
        return _at_positions(op, code, parts, Term(text, made))
    y, state = code.unpack(text, made, (*lead, "c", "c_value"))
    return _at_positions(op, code, parts, y), state


def _at_positions(op: Any, code: Emission, parts: Form, y: Term) -> Term:
    """What stands after the last factor of each position, from the first on."""
    text = y.code
    if parts.inner is not None:
        count = parts.inner.size
        text = f"{text}[..., {code.size(count - 1)} :: {code.size(count)}, :]"
    return Term(f"{text}.flip(-2)" if op.reverse else text, y.order)


def _logarithmic(ports: Ports) -> dict[str, Term]:
    """The inputs that are there, with the decay as its logarithm."""
    present = {name: x for name, x in ports.items() if x is not None}
    if "decay" in present:
        decay = present.pop("decay")
        present["log_decay"] = Term(f"{decay.safe}.clamp(min={SMALLEST}).log()", decay.order)
    return present


def _laid(op: Any, code: Emission, parts: Form, name: str, x: Term) -> str:
    """A term as [*lead, t, c], the decay of a step as [*lead, t, c, c_value], a state as [*lead, c, c_value]; several
    factors a position lie side by side on t.
    """
    if name == "start":
        sides = {channel: [Axis(channel, 1, "channel")] for channel in ("c", "c_value")}
        return arrange(code, x, {axis.name: [axis] for axis in parts.lead} | sides).code
    on, inner = parts.on, parts.inner
    if op.reverse and on.name in x.order:
        x = Term(f"{x.safe}.flip({x.at(on.name)})", x.order)
    along = [on]
    if inner is not None:
        along = [on, inner]
        if inner.name not in x.order and name != "beta":
            x = _between(code, parts, x, before=name == "q")
    groups = {axis.name: [axis] for axis in parts.lead} | {"*along": along}
    channels = ["c", "c_value"] if name == "log_decay" and is_stepwise(parts) else ["c"]
    return arrange(code, x, groups | {channel: [Axis(channel, 1, "channel")] for channel in channels}).code


def _starts(op: Any, code: Emission, parts: Form, segments: Term) -> str:
    """Where a document starts, as broad as a decay: at the first factor of a position."""
    one = _laid(op, code, replace(parts, inner=None), "segments", segments)
    text = f"{code.helper('segment_starts')}({one}.squeeze(-1))"
    if parts.inner is not None:
        text = f"F.pad({text}, (0, {code.size(parts.inner.size - 1)})).flatten(-2)[..., None]"
    return f"{text}[..., None]" if is_stepwise(parts) else text


def _between(code: Emission, parts: Form, x: Term, before: bool) -> Term:
    """What a position has once, put at the last of its factors (`before`: zeros stand before it) or at the first."""
    assert parts.inner is not None
    if parts.on.name not in x.order:
        kept = "-1, " * len(x.order)
        text = f"{x.safe}[..., None].expand({kept}{code.size(parts.on.size)})"
        x = Term(text, (*x.order, parts.on.name))
    count = code.size(parts.inner.size - 1)
    text = f"F.pad({x.safe}[..., None], ({count}, 0))" if before else f"F.pad({x.safe}[..., None], (0, {count}))"
    return Term(text, (*x.order, parts.inner.name))
