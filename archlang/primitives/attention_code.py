"""How attention is laid out in PyTorch: the parts that axes play, operands arranged by them, and masks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from archlang.primitive import Emission, Term, axes_of
from archlang.primitives.domain import Causal, Domain
from archlang.primitives.near import Sliding
from archlang.shapes import Axis, TensorType
from archlang.sizes import Size, product


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
    def offsets(self) -> tuple[str, ...]:
        """The key axes as they are called in a bias that follows from the offset of a key from a query."""
        return tuple(f"{axis.name}_offset" for axis in self.keys)

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
    """How a bias or mask names what it is over: `offset` (NAME_offset), `pair` (NAME and NAME_key), `cell` (query and
    key), `key` (a lone NAME), else `none`.
    """
    present = set(names)
    if present & set(parts.offsets):
        return "offset"
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
    members: dict[str, tuple[str, ...]] = {}
    for name, axes in groups.items():
        if any(axis.name in term.order for axis in axes):
            term, members[name] = _filled(code, term, axes)
    term = _merge(term, members)
    term = code.permute(term, [n for name, own in members.items() for n in ([name] if name in term.order else own)])
    term = _merge(term, members)
    index = [":" if name in term.order else "None" for name in groups]
    while index and index[-1] == ":":
        index.pop()
    return Term(f"{term.safe}[{', '.join(index)}]" if index else term.code, tuple(groups), term.tight or bool(index))


def _filled(code: Emission, term: Term, axes: Sequence[Axis]) -> tuple[Term, tuple[str, ...]]:
    """A term that has some of the axes, with all of them, and the names that it has these under: those behind what it
    has are repetitions of the last that it has.
    """
    names = [axis.name for axis in axes]
    while names[-1] not in term.order:
        names.pop()
    term = _widen(code, term, [axis for axis in axes[: len(names)] if axis.name not in term.order])
    times = product(axis.size for axis in axes[len(names) :])
    if times != 1:
        repeated = f"{term.safe}.repeat_interleave({code.size(times)}, {term.order.index(names[-1])})"
        term = Term(repeated, term.order)
    return term, tuple(names)


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


def over_pairs(term: Term, parts: Layout) -> Term:
    """A bias or mask with its key axes called NAME_key."""
    if form(term.order, parts) != "key":
        return term
    names = dict(zip(parts.names, parts.places, strict=True))
    return Term(term.code, tuple(names.get(name, name) for name in term.order), term.tight)


def domain_mask(code: Emission, domain: Domain, axes: tuple[Axis, ...], device: str) -> Term | None:
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


def key_axes(axes: Iterable[Axis]) -> list[Axis]:
    return [replace(axis, name=f"{axis.name}_key") for axis in axes]


def is_concrete(axes: Iterable[Axis]) -> bool:
    return all(isinstance(axis.size, int) for axis in axes)


def is_causal(domain: Domain, parts: Layout) -> bool:
    """Whether the domain is the plain lower triangle of one axis."""
    return len(parts.keys) == 1 and all(part.is_causal(parts.keys, parts.keys[0]) for part in domain.parts())


def pairs(
    code: Emission, parts: Layout, batches: Mapping[str, Sequence[Axis]], term: Term, fused: bool = False
) -> Term:
    """A bias or mask as [batch, heads, query, key], without leading axes that it lacks; the fused kernel wants all four
    where there are heads, or it is none.
    """
    term = over_pairs(term, parts)
    rows, columns = cell(term) or (parts.queries, key_axes(parts.keys))
    groups = {**batches, "*heads": parts.heads, "*query": rows, "*key": columns}
    whole = fused and any(axis.name in term.order for axis in parts.heads)
    while not whole and not any(axis.name in term.order for axis in groups[next(iter(groups))]):
        del groups[next(iter(groups))]
    return arrange(code, term, groups)


def cell(term: Term) -> tuple[list[Axis], list[Axis]] | None:
    """The axes `query` and `key` of a term that is over positions of a cell."""
    sides = [[Axis(name, 1, "free")] for name in ("query", "key")]
    return (sides[0], sides[1]) if any(name in term.order for name in ("query", "key")) else None


def apart(code: Emission, term: Term, groups: Mapping[str, Sequence[Axis]]) -> Term:
    """The groups split into their axes again."""
    for name, axes in groups.items():
        term = code.split(term, name, axes)
    return term


def tuple_of(code: Emission, sizes: Sequence[Size]) -> str:
    """The text of a tuple of sizes."""
    return f"({', '.join(map(code.size, sizes))}{',' if len(sizes) == 1 else ''})"


@dataclass(frozen=True, slots=True)
class Work:
    """What is written for one application: its domain and parts, its operands, its options.

    segments: documents by position; extra: keys and values beside the map, and their axes; options: `scale` and `drop`
    as text; scored: the arguments of `scored_attention` where the score is no plain softmax; kernel: `fused`,
    `written`, or what is faster; past: how far queries see, as arguments of `past_attention`, where the keys are of
    earlier calls too.
    """

    domain: Domain
    parts: Layout
    qkv: tuple[Term, Term, Term]
    bias: Term | None
    mask: Term | None
    segments: Term | None
    extra: tuple[Term, ...]
    options: Mapping[str, str]
    scored: Mapping[str, str]
    kernel: str | None = None
    past: Mapping[str, str] | None = None

    def core(self, code: Emission, plain: str, inner: str = "") -> str:
        """What is called on the queries and keys of cells: `plain` for a softmax of theirs alone. `inner` indexes extra
        keys [batch, heads, places, c] as cells want them.
        """
        core = plain
        if self.scored:
            given = "".join(f", {name}={text}" for name, text in self.scored.items())
            core = f"partial({code.helper('scored_attention')}{given})"
        if not self.extra:
            return core
        extra = ", ".join(f"{text}{inner}" for text in self.beside(code))
        return f"partial({code.helper('attention_beside')}, extra=({extra}), core={core})"

    def beside(self, code: Emission) -> tuple[str, ...]:
        """The extra keys and values as [batch, heads, places, c]."""
        laid = []
        for place, x in enumerate(self.extra):
            type_ = code.inputs[EXTRA + place]
            groups = {"*batch": self.parts.batch, "*heads": self.parts.heads, "*places": extra_axes(self.parts, type_)}
            laid.append(arrange(code, x, {**groups, "c": [type_["c"]]}).safe)
        return tuple(laid)

    def beside_count(self, code: Emission) -> str:
        """How many keys there are beside the map; empty for none."""
        if not self.extra:
            return ""
        return code.size(product(axis.size for axis in extra_axes(self.parts, code.inputs[EXTRA])))


def kept_apart(code: Emission, work: Work) -> Work:
    """The same with documents as a mask of pairs."""
    if work.segments is None:
        return work
    own = [axis for axis in work.parts.keys if axis.name in work.segments.order]
    doc = code.bind(code.last(work.segments, [axis.name for axis in own]), "doc", part=True)
    beside, after = ", None" * len(own), ", :" * len(own)
    order = (*doc.order, *(axis.name for axis in key_axes(own)))
    same = Term(f"{doc.safe}[...{beside}] == {doc.safe}[...{beside}{after}]", order, tight=False)
    if work.mask is None:
        return replace(work, mask=same, segments=None)
    mask, same = code.align(over_pairs(work.mask, work.parts), same)
    return replace(work, mask=Term(f"{mask.safe} & {same.safe}", mask.order, tight=False), segments=None)


BIAS = 3  # the place of `bias` among the inputs of `attend`
EXTRA = 9  # the place of `k_extra` among the inputs of `attend`; that of `v_extra` is next
SEGMENTS = 11  # the place of `segments`, the last one


def extra_axes(parts: Layout, type_: TensorType) -> tuple[Axis, ...]:
    """The axes of keys beside the map."""
    shared = {axis.name for axis in parts.lead} | {"c"}
    return tuple(axis for axis in type_ if axis.name not in shared)
