"""Attention over named axes. What a query may see is a `Domain`; layout and algorithm follow from it and the axes."""

from typing import Annotated, Any, ClassVar, Literal

from archlang.facts import Facts
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
from archlang.primitives.attention_code import Layout, dense, form, in_cells, is_long, layout, scaled, whole
from archlang.primitives.domain import Domain, cells_of, default_domain, extents, is_whole
from archlang.shapes import TensorType, is_float, promote
from archlang.sizes import Size, product

Score = Annotated[Literal["softmax"], Kind("word")]  # a bare word


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
    the order of k's axes.
    """

    name: ClassVar[str] = "attend"
    inputs: ClassVar[tuple[str, ...]] = ("q", "k", "v", "bias?", "mask?", "scale?")

    over: Domain | None = None
    score: Score = "softmax"
    scale: Number | None = None
    drop: Number = 0
    on: Axes = ("space", "time")
    position: Any = None  # never stays here: the elaborator applies it, as an operation of its own

    # ---- types
    def infer(
        self, facts: Facts, q: TensorType, k: TensorType, v: TensorType, *extras: TensorType | None
    ) -> TensorType:
        for name, type_ in (("q", q), ("k", k), ("v", v)):
            need_axes(type_, ("c",), name)
            if not is_float(type_.dtype):
                raise OpError("A214", f"attention takes float tensors, and `{name}` is {type_}", name)
        if not 0 <= self.drop < 1:
            raise OpError("A319", f"`drop` must be at least 0 and below 1, and is {self.drop}", "drop")
        parts = layout(self.on, q, k, v)
        if not parts.keys:
            raise OpError("A205", f"`k` has no axis to attend over: {k}", "k", help="name it: `on = [..]`")
        self._check_axes(facts, parts, q, k, v)
        self._check_domain(facts, parts)
        for name, extra in zip(("bias", "mask", "scale"), (*extras, None, None, None), strict=False):
            self._check_extra(facts, parts, name, extra)
        kept = (*q.without("c"), *(axis for axis in parts.lead if axis.name not in q))
        return TensorType((*kept, v["c"]), promote(q.dtype, k.dtype, v.dtype))

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
        if name == "mask" and extra.dtype != "bool":
            raise OpError("A214", f"`mask` must be bool, and is {extra}", name)
        known = {a.name: a.size for a in (*parts.keys, *parts.lead, *parts.extra, *parts.queries)}
        if name != "scale":
            known |= dict(zip(parts.places, (a.size for a in parts.keys), strict=True)) | self._cell(parts)
        for axis in extra:
            if axis.name not in known or not facts.equal(known[axis.name], axis.size):
                raise OpError("A204", f"`{name}` has {axis}, which is no axis of the attention", name)
        names = form(extra.names, parts) if name != "scale" else "none"
        if cells_of(self.domain(parts)) and not is_whole(self.domain(parts), parts.keys) and names in ("pair", "key"):
            help_ = "make it a bias over the axes `query` and `key` of a window"
            raise OpError("A319", f"`{name}` does not go with `{self.domain(parts)}`", name, help=help_)

    def _cell(self, parts: Layout) -> dict[str, Size]:
        count = product(extents(self.domain(parts), parts.keys))
        return {"key": count} | ({"query": count} if len(parts.queries) == len(parts.keys) else {})

    def domain(self, parts: Layout) -> Domain:
        """What a query sees."""
        return self.over or default_domain(parts.queries)

    def mixes(self, q: TensorType, k: TensorType, v: TensorType, *extras: Any) -> frozenset[str]:
        return frozenset((*layout(self.on, q, k, v).names, "c"))

    def looks_ahead(self, q: TensorType, k: TensorType, v: TensorType, *extras: Any) -> frozenset[str]:
        parts = layout(self.on, q, k, v)
        domain = self.domain(parts)
        return frozenset(axis.name for axis in parts.keys if domain.looks_ahead(parts.keys, axis)) | {"c"}

    def macs(self, q: TensorType, k: TensorType, v: TensorType, *extras: Any) -> Size:
        parts = layout(self.on, q, k, v)
        rows = product(axis.size for axis in (*parts.lead, *parts.extra, *parts.queries))
        return rows * product(extents(self.domain(parts), parts.keys)) * (q.size("c") + v.size("c"))

    # ---- meaning
    def reference(
        self,
        types: Types,
        q: Named,
        k: Named,
        v: Named,
        bias: Named | None = None,
        mask: Named | None = None,
        scale: Named | None = None,
    ) -> Named:
        parts = layout(self.on, *types.inputs[:3])
        sides = dict(zip(parts.names, parts.places, strict=True))
        by = self.scale if self.scale is not None else q.size("c") ** -0.5
        scores = (q * k.rename(**sides)).sum(["c"]) * (by if scale is None else scale)
        if bias is not None:
            scores = scores + self._spread(parts, bias)
        seen = self._seen(parts, q)
        seen = seen if mask is None else seen.combine(self._spread(parts, mask), lambda a, b: a & b)
        scores = scores.combine(seen, lambda s, m: s.masked_fill(~m, float("-inf")))
        top = scores.reduce(lambda s, dim: s.detach().amax(dim).clamp(min=-1e300), parts.places)
        weights = (scores - top).map(lambda s: s.exp())
        total = weights.sum(parts.places).map(lambda s: s + (s == 0))
        return (weights * v.rename(**sides)).sum(parts.places) / total

    def _seen(self, parts: Layout, q: Named) -> Named:
        """Bool over the query and key axes: what the domain lets be seen."""
        import torch

        seen = Named(torch.ones((), dtype=torch.bool, device=q.tensor.device), ())
        domain = self.domain(parts)
        for axis in parts.queries:
            if domain.restricts(parts.keys, axis):
                i = torch.arange(whole(axis.size), device=q.tensor.device)
                sees = Named(domain.sees(parts.keys, axis, i[:, None], i), (axis.name, f"{axis.name}_key"))
                seen = seen.combine(sees, lambda a, b: a & b)
        return seen.combine(
            Named(seen.tensor.new_ones([whole(a.size) for a in parts.keys]), parts.places), lambda a, b: a & b
        )

    def _spread(self, parts: Layout, extra: Named) -> Named:
        """A bias or mask over query axes and `NAME_key` axes."""
        shape = [whole(axis.size) for axis in parts.keys]
        if form(extra.names, parts) == "key":
            return extra.rename(**dict(zip(parts.names, parts.places, strict=True)))
        for side, names in (("query", parts.names), ("key", parts.places)):
            if side in extra.names and form(extra.names, parts) == "cell":
                kept = tuple(name for name in extra.names if name != side)
                rows = extra.to((*kept, side))[..., self._places(parts)]
                extra = Named(rows.reshape(*rows.shape[:-1], *shape), (*kept, *names))
        return extra

    def _places(self, parts: Layout) -> Any:
        """For every position of the map, flattened: its place inside its cell, flattened."""
        import torch

        domain = self.domain(parts)
        cells, flat = cells_of(domain), Named(torch.zeros((), dtype=torch.long), ())
        for axis, size in zip(parts.keys, extents(domain, parts.keys), strict=True):
            i = torch.arange(whole(axis.size))
            flat = flat * whole(size) + Named(cells.place(axis, i) if cells else i, (axis.name,))
        return flat.to(parts.names).flatten()

    # ---- PyTorch
    def emit(
        self,
        code: Emission,
        q: Term,
        k: Term,
        v: Term,
        bias: Term | None = None,
        mask: Term | None = None,
        scale: Term | None = None,
    ) -> Term:
        parts = layout(self.on, *code.inputs[:3])
        options = {"drop": f"{code.const(self.drop)} if self.training else 0.0"} if self.drop else {}
        if self.scale is not None:
            options["scale"] = code.const(float(self.scale))
        if scale is not None:
            q, options["scale"] = scaled(code, q, scale), "1.0"
        domain, biased = self.domain(parts), bias is not None and form(bias.order, parts) in ("pair", "key")
        if cells_of(domain) and not (
            is_whole(domain, parts.keys) and (mask is not None or biased or is_long(parts.keys))
        ):
            return in_cells(code, domain, parts, (q, k, v), bias, options)
        return dense(code, domain, parts, (q, k, v), bias, mask, options)
