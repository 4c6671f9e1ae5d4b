"""How attention is laid out and written in PyTorch: the parts that axes play, masks, and the dense and the partitioned
form.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from archlang.primitive import Emission, Term, axes_of
from archlang.primitives.domain import Causal, Domain, Full, Sliding, Windows, cells_of, extents
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, product

Options = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Layout:
    """The parts that the axes of an application play; `c` is in none.

    keys: attended over; queries: those of the keys that q has too; lead: of k or v and not attended; extra: of q alone
    (groups of heads, the positions of a cross-attention).
    """

    keys: tuple[Axis, ...]
    queries: tuple[Axis, ...]
    lead: tuple[Axis, ...]
    extra: tuple[Axis, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The key axes as k has them."""
        return tuple(axis.name for axis in self.keys)

    @property
    def places(self) -> tuple[str, ...]:
        """The key axes as they are called where query and key axes stand side by side."""
        return tuple(f"{axis.name}_key" for axis in self.keys)

    @property
    def batch(self) -> tuple[Axis, ...]:
        return tuple(axis for axis in (*self.lead, *self.extra) if axis.role != "free")

    @property
    def heads(self) -> tuple[Axis, ...]:
        """Heads, groups of heads: the free axes, those of k first."""
        return tuple(axis for axis in (*self.lead, *self.extra) if axis.role == "free")


def layout(on: Sequence[str], q: TensorType, k: TensorType, v: TensorType | None = None) -> Layout:
    """Tell the axes of an attention apart."""
    keys = tuple(k[name] for name in axes_of(on, k) if name != "c")
    names = {axis.name for axis in keys} | {"c"}
    shared = {axis.name: axis for axis in (*k, *(v or ())) if axis.name not in names}
    ordered = [axis.name for axis in q if axis.name in shared] + [name for name in shared if name not in q]
    extra = tuple(axis for axis in q if axis.name not in names and axis.name not in shared)
    return Layout(
        keys, tuple(q[axis.name] for axis in keys if axis.name in q), tuple(shared[name] for name in ordered), extra
    )


def form(names: Iterable[str], parts: Layout) -> str:
    """How a bias or mask names what it is over: `pair` (NAME and NAME_key), `cell` (query and key), `key` (a lone
    NAME), else `none`.
    """
    present = set(names)
    if present & set(parts.places):
        return "pair"
    if present & {"query", "key"}:
        return "cell"
    return "key" if present & set(parts.names) else "none"


def whole(size: Size) -> int:
    """A size that is a number."""
    assert isinstance(size, int)
    return size


# ---- arranging terms
def arrange(code: Emission, term: Term, groups: Mapping[str, Sequence[Axis]]) -> Term:
    """The axes of the groups in order, each group flattened into one axis of its name; of size 1 where the term has
    none of it.
    """
    for axes in groups.values():
        if any(axis.name in term.order for axis in axes):
            term = _widen(code, term, [axis for axis in axes if axis.name not in term.order])
    members = {
        name: tuple(axis.name for axis in axes)
        for name, axes in groups.items()
        if any(a.name in term.order for a in axes)
    }
    term = _merge(term, members)
    term = code.permute(term, [n for name, own in members.items() for n in ([name] if name in term.order else own)])
    term = _merge(term, members)
    index = [":" if name in term.order else "None" for name in groups]
    while index and index[-1] == ":":
        index.pop()
    return Term(f"{term.safe}[{', '.join(index)}]" if index else term.code, tuple(groups), term.tight or bool(index))


def _widen(code: Emission, term: Term, axes: Sequence[Axis]) -> Term:
    """New last axes by repetition, without a copy."""
    if not axes:
        return term
    kept, sizes = ", ".join(["-1"] * len(term.order)), ", ".join(code.size(axis.size) for axis in axes)
    index = ", ".join(["...", *["None"] * len(axes)])
    return Term(f"{term.safe}[{index}].expand({kept}, {sizes})", (*term.order, *(axis.name for axis in axes)))


def _merge(term: Term, groups: Mapping[str, Sequence[str]]) -> Term:
    """Flatten the groups whose axes lie side by side in order."""
    for name, members in groups.items():
        if name in term.order or members[0] not in term.order:
            continue
        start = term.order.index(members[0])
        end = start + len(members)
        if term.order[start:end] != tuple(members):
            continue
        last = "" if end == len(term.order) else f", {end - 1}"
        flat = f"{term.safe}.flatten({start}{last})" if len(members) > 1 else term.code
        term = Term(flat, (*term.order[:start], name, *term.order[end:]), term.tight or len(members) > 1)
    return term


def scaled(code: Emission, q: Term, scale: Term) -> Term:
    """q times a tensor."""
    q, scale = code.align(q, scale)
    return Term(f"{q.safe} * {scale.safe}", q.order, tight=False)


def _over_pairs(term: Term, parts: Layout) -> Term:
    """A bias or mask with its key axes called NAME_key."""
    if form(term.order, parts) != "key":
        return term
    names = dict(zip(parts.names, parts.places, strict=True))
    return Term(term.code, tuple(names.get(name, name) for name in term.order), term.tight)


def _domain_mask(code: Emission, domain: Domain, axes: tuple[Axis, ...], device: str) -> Term | None:
    """What a domain lets be seen, as bool[query, key] over flattened axes; None where that is all."""
    masks = {axis.name: text for axis in axes if (text := _axis_mask(code, domain, axes, axis, device))}
    if not masks:
        return None
    if len(axes) == 1:
        return Term(masks[axes[0].name], ("*query", "*key"), tight="&" not in masks[axes[0].name])
    names = [axis.name for axis in axes]
    text = f"({' & '.join(f'({text}){_at(names, name)}' for name, text in masks.items())})"
    if len(masks) < len(axes):
        sizes = ", ".join(code.size(axis.size) for axis in axes)
        text = f"{text}.expand({sizes}, {sizes})"
    return Term(f"{text}.flatten(0, {len(axes) - 1}).flatten(1)", ("*query", "*key"))


def _axis_mask(code: Emission, domain: Domain, axes: tuple[Axis, ...], axis: Axis, device: str) -> str:
    """What a domain lets be seen along one axis; empty where that is all."""
    parts = list(domain.parts())
    if axis.role == "time" and any(isinstance(part, Sliding) for part in parts):  # which is causal on time
        parts = [part for part in parts if not isinstance(part, Causal)]
    return " & ".join(text for part in parts if (text := part.mask(code, axes, axis, device)))


def _at(names: Sequence[str], name: str) -> str:
    """The index that puts a [query, key] matrix of one axis among the query and key axes of all."""
    side = [":" if other == name else "None" for other in names]
    index = [*side, *side]
    while index[-1] == ":":
        index.pop()
    return f"[{', '.join(index)}]"


def _key_axes(axes: Iterable[Axis]) -> list[Axis]:
    return [replace(axis, name=f"{axis.name}_key") for axis in axes]


def _is_concrete(axes: Iterable[Axis]) -> bool:
    return all(isinstance(axis.size, int) for axis in axes)


def _is_causal(domain: Domain, parts: Layout) -> bool:
    """Whether the domain is the plain lower triangle of one axis."""
    return len(parts.keys) == 1 and all(part.is_causal(parts.keys, parts.keys[0]) for part in domain.parts())


def _pairs(code: Emission, parts: Layout, batch: Sequence[Axis], term: Term) -> Term:
    """A bias or mask as [batch, heads, query, key], without leading axes that it lacks."""
    term = _over_pairs(term, parts)
    rows, columns = _cell(term) or (parts.queries, _key_axes(parts.keys))
    groups = {"*batch": batch, "*heads": parts.heads, "*query": rows, "*key": columns}
    while not any(axis.name in term.order for axis in groups[next(iter(groups))]):
        del groups[next(iter(groups))]
    return arrange(code, term, groups)


def _cell(term: Term) -> tuple[list[Axis], list[Axis]] | None:
    """The axes `query` and `key` of a term that is over positions of a cell."""
    sides = [[Axis(name, 1, "free")] for name in ("query", "key")]
    return (sides[0], sides[1]) if any(name in term.order for name in ("query", "key")) else None


# ---- the dense form
SHORT = 64  # so many keys, and softmax written out is faster on a CPU than the fused kernel (at 49: by half)


def is_long(keys: Iterable[Axis]) -> bool:
    """Whether the fused kernel is the faster one."""
    return not _is_concrete(keys) or whole(product(axis.size for axis in keys)) > SHORT


def dense(
    code: Emission,
    domain: Domain,
    parts: Layout,
    qkv: Sequence[Term],
    bias: Term | None,
    mask: Term | None,
    options: Options,
) -> Term:
    """`F.scaled_dot_product_attention` over [batch, heads, query, c]."""
    names = {name for term in (bias, mask) if term is not None for name in term.order}
    everything = not names and not any(domain.restricts(parts.keys, axis) for axis in parts.keys)
    rows = [*parts.queries, *(axis for axis in parts.extra if everything and axis.role != "free")]
    batch = [axis for axis in parts.batch if axis not in rows]
    shared = [axis for axis in parts.heads if axis not in parts.extra]
    grouped = len(shared) < len(parts.heads) and not any(axis.name in names for axis in parts.heads)
    flags = {"dropout_p" if name == "drop" else name: text for name, text in options.items()}
    if grouped:
        flags = {"enable_gqa": "True", **flags}
    if not names and _is_causal(domain, parts):
        flags = {"is_causal": "True", **flags}
    elif not everything:
        flags = {"attn_mask": _attn_mask(code, domain, parts, batch, bias, mask), **flags}
    laid = []
    for x, type_, heads, places in zip(
        qkv, code.inputs, (parts.heads, shared, shared), (rows, parts.keys, parts.keys), strict=False
    ):
        groups = {"*batch": batch, "*heads": heads if grouped else parts.heads, "*places": places, "c": [type_["c"]]}
        laid.append(arrange(code, x, groups).code)
    call = f"F.scaled_dot_product_attention({', '.join([*laid, *(f'{name}={text}' for name, text in flags.items())])})"
    out = Term(call, ("*batch", "*heads", "*query", "c"))
    return _apart(code, out, {"*query": rows, "*heads": parts.heads, "*batch": batch})


def _apart(code: Emission, term: Term, groups: Mapping[str, Sequence[Axis]]) -> Term:
    for name, axes in groups.items():
        term = code.split(term, name, axes)
    return term


def _attn_mask(
    code: Emission, domain: Domain, parts: Layout, batch: Sequence[Axis], bias: Term | None, mask: Term | None
) -> str:
    """One mask of the domain, the mask and the bias: bool, or float where there is a bias."""
    concrete = _is_concrete(parts.keys)
    own = _domain_mask(code, domain, parts.keys, "" if concrete else f", device={code.device()}")
    masks = [code.buffer("mask", own.code) if concrete else code.bind(own, "mask").safe] if own else []
    masks += [_pairs(code, parts, batch, mask).safe] if mask is not None else []
    if bias is None:
        return " & ".join(masks)
    biased = _pairs(code, parts, batch, bias).code
    return f'torch.where({" & ".join(masks)}, {biased}, float("-inf"))' if masks else biased


# ---- the partitioned form
def in_cells(
    code: Emission, domain: Domain, parts: Layout, qkv: Sequence[Term], bias: Term | None, options: Options
) -> Term:
    """Attention inside each cell of a partition: a helper takes q, k, v as [batch, *map, heads, c]."""
    cells = cells_of(domain)
    assert cells is not None
    space = {axis.name: [axis] for axis in parts.keys}
    types = zip(qkv, (code.inputs[0], code.inputs[1], code.inputs[2]), strict=True)
    laid = [
        arrange(code, x, {"*batch": parts.batch, **space, "*heads": parts.heads, "c": [type_["c"]]}).code
        for x, type_ in types
    ]
    window = _tuple(code, extents(domain, parts.keys))
    flags: dict[str, str] = {}
    biases = [_cell_bias(code, parts, bias)] if bias is not None else []
    if isinstance(cells, Windows) and any(moved := [cells.moved(axis) for axis in parts.keys]):
        flags["shift"] = _tuple(code, moved)
        biases.append(_shift_bias(code, parts, window, flags["shift"]))
    biases += _inner_bias(code, domain, parts)
    flags |= {"bias": " + ".join(biases)} if biases else {}
    helper = code.helper(f"{cells.layout}_attention")
    named = [f"{name}={text}" for name, text in (flags | dict(options)).items()]
    out = Term(f"{helper}({', '.join([*laid, window, *named])})", ("*batch", *space, "*heads", "c"))
    return _apart(code, out, {"*heads": parts.heads, "*batch": parts.batch})


def _tuple(code: Emission, sizes: Sequence[Size]) -> str:
    items = ", ".join(code.size(size) for size in sizes)
    return f"({items},)" if len(sizes) == 1 else f"({items})"


def _cell_bias(code: Emission, parts: Layout, bias: Term) -> str:
    """A bias as [heads, query, key], or [batch, 1, heads, query, key] where it has batch axes."""
    rows, columns = [Axis("query", 1, "free")], [Axis("key", 1, "free")]
    groups: dict[str, Sequence[Axis]] = {"*heads": parts.heads, "*query": rows, "*key": columns}
    if any(axis.name in bias.order for axis in parts.batch):
        groups = {"*batch": parts.batch, "*cells": (), **groups}
    return arrange(code, bias, groups).safe


def _shift_bias(code: Emission, parts: Layout, window: str, shift: str) -> str:
    """What keeps apart the two parts of a window that a shift wraps around the border."""
    text = f"{code.helper('shift_bias')}({_tuple(code, [axis.size for axis in parts.keys])}, {window}, {shift}"
    return (
        code.buffer("shift_bias", f"{text})")
        if _is_concrete(parts.keys)
        else f"{text}, dtype={code.working()}, device={code.device()})"
    )


def _inner_bias(code: Emission, domain: Domain, parts: Layout) -> list[str]:
    """What the other domains of a meet forbid inside a cell."""
    cells, sizes = cells_of(domain), extents(domain, parts.keys)
    axes = tuple(replace(axis, size=size) for axis, size in zip(parts.keys, sizes, strict=True))
    others = [part for part in domain.parts() if part is not cells]
    inner = reduce(Domain.meet, others) if others else Full()
    concrete = _is_concrete(axes)
    seen = _domain_mask(code, inner, axes, "" if concrete else f", device={code.device()}")
    if seen is None:
        return []
    text = f'torch.where({seen.code}, 0.0, float("-inf"))'
    return [code.buffer("mask", text) if concrete else f"{text}.to({code.working()})"]
