"""Attention over named axes. What a query may see is a `Domain`; layout and algorithm follow from it and the axes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Axes,
    Emission,
    Kind,
    Number,
    OpError,
    Primitive,
    Term,
    Types,
    need_axes,
    register,
)
from archlang.primitives import attention_memory
from archlang.primitives.attention_cells import in_cells
from archlang.primitives.attention_code import Layout, Work, extra_axes, form, kept_apart, layout, scaled
from archlang.primitives.attention_dense import SHORT, SHORT_BIASED, dense, is_long, is_short, one_query
from archlang.primitives.attention_meaning import meaning
from archlang.primitives.attention_near import in_one_call, near
from archlang.primitives.attention_resumed import resumed
from archlang.primitives.attention_score import scored
from archlang.primitives.attention_steps import memory, step
from archlang.primitives.domain import Domain, cells_of, default_domain, extents, is_whole
from archlang.primitives.near import is_local, reaches, tiling
from archlang.primitives.score import Score, Softmax
from archlang.shapes import TensorType, is_float, promote
from archlang.sizes import Poly, Size, product


@register
class Attend(Primitive):
    """out[.., i, c] = sum over j of softmax_j(scale * sum over c of q[.., i, c] k[.., j, c] + bias[.., i, j]) v[.., j,
    c].

    j runs over the axes `on` of k and v (default: k's space and time axes) as far as `over` lets i see them (default:
    causal on time, full on space); `c` of q and k is contracted, the result has v's `c`. Every other axis agrees or
    broadcasts by name: with q[.., heads, group, c] and k[.., heads, c] this is grouped-query attention. The attended
    axes of q and k are different axes even under one name: both may have `n` in different sizes where `over` is full,
    and q may lack them (a query of one). `scale` is a number or a tensor, 1 / sqrt(c) by default.

    `bias` (float) and `mask` (bool: what is seen; a query that sees nothing gets 0) name query axes as q does and key
    axes `NAME_key`; with no `NAME_key`, an attended NAME is the key's (a padding mask). A bias over `query` and `key`,
    as `relative` makes it, counts positions inside the cell of a partition (the whole map without one), flattened in
    the order of k's axes. A bias over axes `NAME_offset` of odd size belongs to the offset from query to key, counted
    in steps of the domain from the middle, where the domain moves with the query (`sliding`, `neighborhood`, `radius`,
    `chunks`).

    `score` is `softmax`, `sigmoid(bias = ..)` or `relu(power = .., mean = ..)`; `cap` bounds the scaled products,
    cap tanh(s / cap); `sink` (a number, or a tensor over the axes of heads) is a logit that softmax divides by but that
    has no value; `logit_mix` and `weight_mix` [heads, mixed] mix the heads before the bias and after the score (talking
    heads). `k_extra` and `v_extra` are keys and values beside the map (registers, cls, text), over axes that k lacks:
    every query sees them, whatever `over` says. `segments` are documents: of the map a query sees its own alone.

    `core` says whether a plain softmax over all keys of a cell or map is PyTorch's fused kernel (`fused`) or products
    of matrices (`written`); by default it is what is faster on a CPU.

    A domain is never a mask of all pairs: a partition is cut into its cells, what moves with the query into tiles of
    queries beside the keys near them, so that time and memory grow with tokens times domain.
    """

    name: ClassVar[str] = "attend"
    inputs: ClassVar[tuple[str, ...]] = (
        *("q", "k", "v", "bias?", "mask?", "scale?", "sink?", "logit_mix?", "weight_mix?"),
        *("k_extra?", "v_extra?", "segments?"),
    )

    over: Domain | None = None
    score: Annotated[Score, Kind("score")] = Softmax()
    scale: Number | None = None
    cap: Number | None = None
    sink: Number | None = None
    drop: Number = 0
    on: Axes = ("space", "time")
    core: Annotated[Literal["fused", "written"] | None, Kind("word")] = None
    position: Any = None  # never stays here: the elaborator applies it, as an operation of its own

    # ---- types
    def infer(
        self, facts: Facts, q: TensorType, k: TensorType, v: TensorType, *extras: TensorType | None
    ) -> TensorType:
        for name, type_ in (("q", q), ("k", k), ("v", v)):
            need_axes(type_, ("c",), name)
            if not is_float(type_.dtype):
                raise OpError("A214", f"attention takes float tensors, and `{name}` is {type_}", name)
        self._check_numbers()
        parts = layout(self.on, q, k, v)
        if not parts.keys:
            raise OpError("A205", f"`k` has no axis to attend over: {k}", "k", help="name it: `on = [..]`")
        self._check_axes(facts, parts, q, k, v)
        self._check_domain(facts, parts)
        bias, mask, scale, sink, logit_mix, weight_mix, k_extra, v_extra, segments = _all(extras)
        given = {"bias": bias, "mask": mask, "scale": scale, "sink": sink, "segments": segments}
        for name, extra in given.items():
            self._check_extra(facts, parts, name, extra)
        if segments is not None and mask is not None and form(mask.names, parts) == "cell":
            raise OpError("A204", f"`mask` counts places of a cell, and `segments` those of the map: {mask}", "mask")
        for name, mix in (("logit_mix", logit_mix), ("weight_mix", weight_mix)):
            self._check_mix(facts, parts, name, mix)
        self._check_beside(facts, parts, k, v, k_extra, v_extra)
        if not isinstance(self.score, Softmax) and (sink is not None or self.sink is not None):
            raise OpError("A319", f"`sink` is a part of softmax, and `score` is `{self.score}`", "sink")
        kept = (*q.without("c"), *(axis for axis in parts.lead if axis.name not in q))
        return TensorType((*kept, v["c"]), promote(q.dtype, k.dtype, v.dtype))

    def _check_numbers(self) -> None:
        if not 0 <= self.drop < 1:
            raise OpError("A319", f"`drop` must be at least 0 and below 1, and is {self.drop}", "drop")
        if self.cap is not None and self.cap <= 0:
            raise OpError("A319", f"`cap` must be positive, and is {self.cap}", "cap")

    def _check_mix(self, facts: Facts, parts: Layout, name: str, mix: TensorType | None) -> None:
        """A matrix from an axis of heads to one of another name and the same size."""
        if mix is None:
            return
        heads = [axis for axis in mix if axis in parts.heads]
        others = [axis for axis in mix if axis not in parts.heads]
        if (
            len(parts.heads) != 1
            or len(heads) != 1
            or len(others) != 1
            or not facts.equal(heads[0].size, others[0].size)
        ):
            names = ", ".join(axis.name for axis in parts.heads) or "none"
            help = "`[heads, mixed = heads]` mixes `heads`"
            raise OpError("A204", f"`{name}` mixes one axis of heads ({names} here), and is {mix}", name, help=help)

    def _check_beside(
        self, facts: Facts, parts: Layout, k: TensorType, v: TensorType, *extra: TensorType | None
    ) -> None:
        for name, type_, other in zip(("k_extra", "v_extra"), extra, (k, v), strict=True):
            if type_ is None:
                continue
            need_axes(type_, ("c",), name)
            own = extra_axes(parts, type_)
            if not own:
                raise OpError("A205", f"`{name}` has no axis of its own to attend over: {type_}", name)
            known = {a.name: a.size for a in parts.lead} | {"c": other.size("c")}
            for axis in type_:
                if axis in own and axis in parts.heads:
                    help = f"give it a role: `[.., {axis.name}: space, ..]`"
                    raise OpError(
                        "A205", f"`{axis.name}` is an axis of heads in `q`, and one of keys in `{name}`", name, help
                    )
                if axis not in own and not facts.equal(known[axis.name], axis.size):
                    title = f"axis `{axis.name}` has {axis.size} in `{name}` and {known[axis.name]} beside it"
                    raise OpError("A204", title, name)
        first, second = (None if type_ is None else extra_axes(parts, type_) for type_ in extra)
        if first != second:
            raise OpError("A204", "`k_extra` and `v_extra` go together, over the same axes", "k_extra")

    def _check_axes(self, facts: Facts, parts: Layout, q: TensorType, k: TensorType, v: TensorType) -> None:
        need_axes(v, parts.names, "v")
        if not facts.equal(q.size("c"), k.size("c")):
            raise OpError("A204", f"axis `c` has {q.size('c')} in `q` and {k.size('c')} in `k`", "c")
        pairs = [("k", k, "v", v, a.name) for a in (*parts.keys, *parts.lead)]
        pairs += [("q", q, other, type_, a.name) for a in parts.lead for other, type_ in (("k", k), ("v", v))]
        for left, a, right, b, name in pairs:
            if name in a and name in b and not facts.equal(a.size(name), b.size(name)):
                raise OpError(
                    "A204", f"axis `{name}` has {a.size(name)} in `{left}` and {b.size(name)} in `{right}`", name
                )

    def _check_domain(self, facts: Facts, parts: Layout) -> None:
        domain = self.domain(parts)
        domain.check(facts, parts.keys)
        queries = {axis.name: axis.size for axis in parts.queries}
        for axis in parts.keys:
            query = queries.get(axis.name)
            if domain.restricts(parts.keys, axis) and (query is None or not facts.equal(query, axis.size)):
                found = "lacks it" if query is None else f"has {query}"
                title = f"`{domain}` pairs queries and keys along `{axis.name}`: `k` has {axis.size} and `q` {found}"
                raise OpError("A204", title, "over", help="a query may see every key with `over = full`")

    def _check_extra(self, facts: Facts, parts: Layout, name: str, extra: TensorType | None) -> None:
        if extra is None:
            return
        kinds = {"mask": ("bool",), "segments": ("segments", "int", "int64", "int32")}
        if name in kinds and extra.dtype not in kinds[name]:
            raise OpError("A214", f"`{name}` must be {kinds[name][0]}, and is {extra}", name)
        domain = self.domain(parts)
        known = {a.name: a.size for a in (*parts.lead, *parts.extra)}
        if name != "sink":
            known |= {a.name: a.size for a in (*parts.keys, *parts.queries)}
        if name == "segments":
            self._check_documents(facts, parts, extra)
        if name in ("bias", "mask"):
            known |= dict(zip(parts.places, (a.size for a in parts.keys), strict=True)) | self._cell(parts)
        if name == "bias" and reaches(domain, parts.keys):
            known |= {axis.name: axis.size for axis in extra if axis.name in parts.offsets and _is_odd(axis.size)}
        for axis in extra:
            if axis.name not in known or not facts.equal(known[axis.name], axis.size):
                raise OpError("A204", f"`{name}` has {axis}, which is no axis of the attention", name)
        if name in ("bias", "mask"):
            self._check_places(parts, name, extra)

    def _check_documents(self, facts: Facts, parts: Layout, segments: TensorType) -> None:
        """Queries and keys of the same places."""
        queries = {axis.name: axis.size for axis in parts.queries}
        for axis in parts.keys:
            query = queries.get(axis.name)
            if axis.name in segments and (query is None or not facts.equal(query, axis.size)):
                found = "lacks it" if query is None else f"has {query}"
                title = f"documents lie along `{axis.name}` of queries and keys: `k` has {axis.size} and `q` {found}"
                raise OpError("A204", title, "segments")
        if not {axis.name for axis in parts.keys} & set(segments.names):
            raise OpError("A204", f"`segments` has no axis that is attended over, and is {segments}", "segments")

    def _check_places(self, parts: Layout, name: str, extra: TensorType) -> None:
        """Positions of the map, or offsets, or positions of a cell: not two of these."""
        kinds = ({*parts.names, *parts.places}, set(parts.offsets), {"query", "key"} - set(parts.names))
        found = [next(axis for axis in extra.names if axis in kind) for kind in kinds if kind & set(extra.names)]
        if len(found) > 1:
            title = f"`{name}` says in two ways where it holds, by `{found[0]}` and by `{found[1]}`, and is {extra}"
            raise OpError("A204", title, name)

    def _cell(self, parts: Layout) -> dict[str, Size]:
        count = product(extents(self.domain(parts), parts.keys))
        return {"key": count} | ({"query": count} if len(parts.queries) == len(parts.keys) else {})

    def domain(self, parts: Layout) -> Domain:
        """What a query sees."""
        return self.over or default_domain(parts.queries)

    def mixes(self, q: TensorType, k: TensorType, v: TensorType, *extras: Any) -> frozenset[str]:
        parts = layout(self.on, q, k, v)
        return frozenset((*parts.names, "c", *self._mixes_whole(parts, extras)))

    def looks_ahead(self, q: TensorType, k: TensorType, v: TensorType, *extras: Any) -> frozenset[str]:
        parts = layout(self.on, q, k, v)
        domain = self.domain(parts)
        ahead = [axis.name for axis in parts.keys if domain.looks_ahead(parts.keys, axis)]
        return frozenset((*ahead, "c", *self._mixes_whole(parts, extras)))

    def _mixes_whole(self, parts: Layout, extras: tuple[Any, ...]) -> list[str]:
        """Axes of heads that talk and of keys beside the map."""
        *_, logit_mix, weight_mix, k_extra, _, _ = _all(extras)
        heads = [axis.name for axis in parts.heads if logit_mix is not None or weight_mix is not None]
        return [*heads, *(axis.name for axis in (extra_axes(parts, k_extra) if k_extra is not None else ()))]

    def macs(self, q: TensorType, k: TensorType, v: TensorType, *extras: Any) -> Size:
        parts, given = layout(self.on, q, k, v), _all(extras)
        rows, keys = product(axis.size for axis in parts.queries), product(extents(self.domain(parts), parts.keys))
        if is_local(self.domain(parts)):
            cuts = [(axis, tiling(self.domain(parts), parts.keys, axis)) for axis in parts.keys]
            rows, keys = product(cut.padded(axis.size) for axis, cut in cuts), product(cut.width for _, cut in cuts)
        if given[6] is not None:
            keys = keys + product(axis.size for axis in extra_axes(parts, given[6]))
        pairs = product(axis.size for axis in (*parts.lead, *parts.extra)) * rows * keys
        mixes = sum(product(axis.size for axis in parts.heads) for mix in given[4:6] if mix is not None)
        return pairs * (q.size("c") + v.size("c") + mixes)

    def algorithm(self, q: TensorType, k: TensorType, v: TensorType, *extras: Any) -> str:
        parts = layout(self.on, q, k, v)
        domain, names = self.domain(parts), ", ".join(axis.name for axis in parts.keys)
        if is_local(self.domain(parts)):
            cuts = [tiling(domain, parts.keys, axis) for axis in parts.keys]
            tile, width = (" x ".join(str(getattr(cut, side)) for cut in cuts) for side in ("tile", "width"))
            return f"tiles of {tile} queries along {names}, each beside the {width} keys near it"
        how = self._core(parts, domain, extras)
        if cells_of(domain) and not is_whole(domain, parts.keys):
            return f"cut into cells of {' x '.join(map(str, extents(domain, parts.keys)))} along {names}, {how}"
        return f"all keys along {names} at once, {how}"

    def _core(self, parts: Layout, domain: Domain, extras: tuple[Any, ...]) -> str:
        """Whether the score is written out, and why."""
        if self.is_scored(extras):
            return "written out: softmax has a fused kernel, the others have none"
        ways = self._cores(parts, domain, extras)
        if self.core in ways:
            return "written out, as chosen" if self.core == "written" else "fused kernel, as chosen"
        if ways[:1] != ("written",):
            return "fused kernel"
        most = f"{SHORT_BIASED} keys with a bias" if self._is_biased(parts, domain, extras) else f"{SHORT} keys"
        return f"written out: up to {most} the faster way on a CPU"

    def cores(self, q: TensorType, k: TensorType, v: TensorType, *extras: Any) -> tuple[str, ...]:
        """What `core` may say here, what is the default first; nothing where there is one way."""
        parts = layout(self.on, q, k, v)
        return self._cores(parts, self.domain(parts), extras)

    def _cores(self, parts: Layout, domain: Domain, extras: tuple[Any, ...]) -> tuple[str, ...]:
        keys, cells = parts.keys, None if is_whole(domain, parts.keys) else cells_of(domain)
        outside = cells is None and any(domain.restricts(keys, axis) for axis in keys)
        _, mask, *_, extra, _, segments = _all(extras)
        kept = mask is not None or segments is not None
        if self.is_scored(extras) or kept or extra is not None or outside or is_local(domain):
            return ()
        sizes = [replace(a, size=size) for a, size in zip(keys, extents(domain, keys), strict=True)]
        biased = self._is_biased(parts, domain, extras)
        written = is_short(None, sizes, biased) and (biased or cells is not None)
        return ("written", "fused") if written else ("fused", "written")

    def _is_biased(self, parts: Layout, domain: Domain, extras: tuple[Any, ...]) -> bool:
        """Whether there is a bias, or what forbids a pair is one."""
        cells = None if is_whole(domain, parts.keys) else cells_of(domain)
        meets = cells is not None and (len(list(domain.parts())) > 1 or any(map(cells.moved, parts.keys)))
        return _all(extras)[0] is not None or meets

    def is_scored(self, extras: Sequence[Any]) -> bool:
        """Whether the score is more than a softmax; `extras` are the inputs after v."""
        given = any(extra is not None for extra in extras[3:6])
        return given or self.cap is not None or self.sink is not None or not isinstance(self.score, Softmax)

    def memory(self, q: TensorType, k: TensorType, v: TensorType, *extras: Any) -> Memory:
        given = _all(extras, (q, k, v))
        return attention_memory.memory(self, self.is_scored(given[3:]), *given)

    # ---- meaning
    def reference(self, types: Types, q: Named, k: Named, v: Named, *extras: Named | None) -> Named:
        return meaning(self, types, q, k, v, *extras)

    # ---- one position of time after another
    def state(self, *inputs: Any) -> Mapping[str, TensorType]:
        return memory(self, *_all(inputs[3:], inputs[:3]))

    def step(
        self, types: Types, state: Mapping[str, Named], *inputs: Any, **weights: Any
    ) -> tuple[Named, dict[str, Named]]:
        return step(self, types, state, *inputs)

    def resumes(self, *inputs: Any) -> bool:
        """No score may divide by the length of a sequence that is not over."""
        count = self.domain(layout(self.on, *inputs[:3])).most(layout(self.on, *inputs[:3]).keys)
        return bool(self.state(*inputs)) and not (self.score.counts and isinstance(count, Poly))

    # ---- PyTorch
    def resume(self, code: Emission, *inputs: Any) -> Term:
        return resumed(code, self._work(code, *inputs)) if self.state(*code.inputs) else self.emit(code, *inputs)

    def _work(self, code: Emission, q: Term, k: Term, v: Term, *extras: Term | None) -> Work:
        """What there is to write."""
        bias, mask, scale, sink, *mixes, segments = _all(extras)
        parts = layout(self.on, *code.inputs[:3])
        options = {"drop": f"{code.const(self.drop)} if self.training else 0.0"} if self.drop else {}
        if self.scale is not None:
            options["scale"] = code.const(float(self.scale))
        if scale is not None:
            q, options["scale"] = scaled(code, q, scale), "1.0"
        domain = self.domain(parts)
        beside = tuple(term for term in mixes[2:] if term is not None)
        other = scored(self, code, parts, sink, *mixes[:2])
        return Work(domain, parts, (q, k, v), bias, mask, segments, beside, options, other, self.core)

    def emit(self, code: Emission, *inputs: Any) -> Term:
        work = self._work(code, *inputs)
        domain, parts = work.domain, work.parts
        if code.kernel("near_attention"):
            return in_one_call(code, work)
        if code.kernel("decode_attention"):
            return one_query(code, work)
        if is_local(domain):
            return near(code, work)
        axes = work.bias.order if work.bias is not None else ()
        if self.is_cut(parts, axes, work.mask is not None or work.segments is not None):
            return in_cells(code, work)
        return dense(code, kept_apart(code, work))

    def is_cut(self, parts: Layout, bias: Sequence[str], kept: bool) -> bool:
        """Whether attention runs inside cells, not over a map as a whole that is one cell; `bias` are the axes of the
        bias, `kept` says whether a mask or documents keep pairs apart.
        """
        domain = self.domain(parts)
        whole = kept or self.core is not None or is_long(parts.keys) or form(bias, parts) in ("pair", "key")
        return cells_of(domain) is not None and not (whole and is_whole(domain, parts.keys))


def _all(extras: Sequence[Any], first: Sequence[Any] = ()) -> tuple[Any, ...]:
    """Every optional input: bias, mask, scale, sink, logit_mix, weight_mix, k_extra, v_extra, segments; `first` before
    them.
    """
    return (*first, *extras, *[None] * (9 - len(extras)))


def _is_odd(size: Size) -> bool:
    return isinstance(size, int) and size % 2 == 1
