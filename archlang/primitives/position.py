"""Positions in attention: biases over pairs of query and key, and rotations of queries and keys.

`role` says how `attend(.., position = P)` uses one: a "bias" is made from q and k, a "rotate" is applied to both.
"""

from typing import Any, ClassVar, Literal

from archlang.facts import Condition, Facts
from archlang.named import Named
from archlang.primitive import (
    Axes,
    Emission,
    Number,
    OpError,
    Param,
    Primitive,
    Term,
    Types,
    Whole,
    axes_of,
    need_axes,
    register,
)
from archlang.primitives.attention_code import Layout, layout, whole
from archlang.primitives.domain import Domain, default_domain, extents
from archlang.shapes import Axis, TensorType, is_float
from archlang.sizes import Size, product


class Position(Primitive):
    """How attention knows where things are."""

    role: ClassVar[Literal["bias", "rotate"]]


class Bias(Position):
    """A bias over the free axes of q (heads, groups), `query` and `key`: positions inside a cell of the domain (the
    map where it has no cells), flattened in the order of k's axes. `over` and `on` are those of `attend`.
    """

    role: ClassVar[Literal["bias", "rotate"]] = "bias"
    inputs: ClassVar[tuple[str, ...]] = ("q", "k")

    over: Domain | None = None
    on: Axes = ("space", "time")

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        parts, sizes = layout(self.on, q, k), self.extents(q, k)
        if not parts.keys or len(parts.queries) != len(parts.keys):
            raise OpError("A205", f"`{self.name}` compares positions, and q has {q}, k has {k}", "q")
        for query, axis in zip(parts.queries, parts.keys, strict=True):
            if not facts.equal(query.size, axis.size):
                raise OpError("A204", f"axis `{axis.name}` has {query.size} in `q` and {axis.size} in `k`", axis.name)
        count = product(sizes)
        return TensorType((*self.heads(q), Axis("query", count, "free"), Axis("key", count, "free")))

    def heads(self, q: TensorType) -> tuple[Axis, ...]:
        """What each has its own bias."""
        return tuple(q[name] for name in q.of_role("free") if name not in axes_of(self.on, q))

    def extents(self, q: TensorType, k: TensorType) -> tuple[Size, ...]:
        """The sizes of a cell."""
        parts = layout(self.on, q, k)
        return extents(self._domain(parts), parts.keys)

    def _domain(self, parts: Layout) -> Domain:
        return self.over or default_domain(parts.queries)


@register
class Relative(Bias):
    """bias[heads, i, j] = weight[index(i - j), heads], one row per offset between two places of a cell.

    For a cell of w_1 x w_2 the offset (d_1, d_2) has row (d_1 + w_1 - 1) * (2 w_2 - 1) + d_2 + w_2 - 1, as Swin
    Transformer's table (Liu et al., ICCV 2021), and so for 1 and 3 axes. Weight: [(2 w_1 - 1)(2 w_2 - 1), heads],
    started at a truncated normal of 0.02.
    """

    name: ClassVar[str] = "relative"

    init: Any = None

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        for size in self.extents(q, k):
            if not isinstance(size, int):
                raise OpError(
                    "A319", f"a table of relative positions needs a size known at compile time, not {size}", "over"
                )
        return super().infer(facts, q, k)

    def params(self, q: TensorType, k: TensorType) -> dict[str, Param]:
        rows = product(2 * size - 1 for size in self.extents(q, k))
        return {"weight": Param((rows, product(axis.size for axis in self.heads(q))), ("offset", "heads"))}

    def emit(self, code: Emission, q: Term, k: Term) -> Term:
        q_type, k_type = code.inputs
        heads, sizes = self.heads(q_type), [code.size(size) for size in self.extents(q_type, k_type)]
        window = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
        table = code.module("RelativePosition", window, code.size(product(axis.size for axis in heads)))
        code.initialise("weight", self.init)
        return code.split(Term(f"{table}()", ("heads", "query", "key")), "heads", heads)

    def reference(self, types: Types, q: Named, k: Named, *, weight: Any) -> Named:
        import torch

        sizes = [whole(size) for size in self.extents(*types.inputs)]
        places = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).reshape(-1, len(sizes))
        row = torch.zeros(len(places), len(places), dtype=torch.long)
        for axis, size in enumerate(sizes):
            row = row * (2 * size - 1) + places[:, None, axis] - places[None, :, axis] + size - 1
        heads = self.heads(types.inputs[0])
        table = weight[row].unflatten(-1, [axis.size for axis in heads] or [1])
        return Named(table if heads else table[..., 0], ("query", "key", *(axis.name for axis in heads)))


@register
class Alibi(Bias):
    """bias[head, i, j] = -slope[head] |i - j|, slope[head] = 2^(-8 (head + 1) / heads), along one axis.

    For a number of heads that is no power of two, the slopes of the power below and then every other one of the power
    above (Press et al., ICLR 2022).
    """

    name: ClassVar[str] = "alibi"

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        if len(self.extents(q, k)) != 1:
            raise OpError(
                "A319", f"`alibi` is along one axis, and {k} has {', '.join(axes_of(self.on, k)) or 'none'}", "on"
            )
        if not isinstance(self._count(q), int):
            raise OpError("A319", f"`alibi` needs to know the number of heads, {self._count(q)}", "q")
        return super().infer(facts, q, k)

    def _count(self, q: TensorType) -> Size:
        return product(axis.size for axis in self.heads(q))

    def emit(self, code: Emission, q: Term, k: Term) -> Term:
        (size,), heads = self.extents(*code.inputs), self.heads(code.inputs[0])
        sizes = f"{code.size(self._count(code.inputs[0]))}, {code.size(size)}"
        bias = f"{code.helper('alibi')}({sizes}, dtype={code.working()}, device={code.device()})"
        return code.split(Term(bias, ("heads", "query", "key")), "heads", heads)

    def reference(self, types: Types, q: Named, k: Named) -> Named:
        import torch

        (size,), count = self.extents(*types.inputs), whole(self._count(types.inputs[0]))
        i = torch.arange(whole(size), dtype=q.tensor.dtype)
        slopes = torch.tensor(_slopes(count), dtype=q.tensor.dtype)
        bias = -slopes[:, None, None] * (i[:, None] - i).abs()
        heads = self.heads(types.inputs[0])
        spread = bias.reshape(*(whole(axis.size) for axis in heads), *bias.shape[1:])
        return Named(spread, (*(axis.name for axis in heads), "query", "key"))


def _slopes(heads: int) -> list[float]:
    power = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    return slopes + [2 ** (-4 * (2 * head + 1) / power) for head in range(heads - power)]


@register
class Rope(Position):
    """Turn each pair of channels of x at position p by the angle p * base^(-2 i / dim), i counting the pairs (Su et
    al., RoFormer, 2021).

    Pairs are (i, i + dim / 2), as Llama has them, or neighbours (2 i, 2 i + 1) where `interleaved`. `dim` channels are
    turned (default all), the rest pass. Positions count along `on`: x's time axis, else its one space axis. Angles are
    computed in float32 at least.
    """

    name: ClassVar[str] = "rope"
    role: ClassVar[Literal["bias", "rotate"]] = "rotate"

    base: Number = 10000
    dim: Whole | None = None
    interleaved: bool = False
    on: Axes | None = None

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, ("c",))
        if not is_float(x.dtype):
            raise OpError("A214", f"`rope` takes a float tensor, not {x}", "x")
        if len(self.along(x)) != 1:
            raise OpError(
                "A319",
                f"`rope` turns along one axis, and {x} has {', '.join(self.along(x)) or 'none'}",
                "on",
                help="name it: `on = t`",
            )
        dim = self.turned(x)
        if not isinstance(dim, int) or dim < 2 or dim % 2 or not facts.require(Condition("<=", dim, x.size("c"))):
            raise OpError(
                "A319", f"`rope` turns pairs of channels: an even number of at most {x.size('c')}, not {dim}", "dim"
            )
        if self.base <= 0:
            raise OpError("A319", f"`base` must be positive, and is {self.base}", "base")
        return x

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset("c")

    def along(self, x: TensorType) -> tuple[str, ...]:
        """The axis that positions count along."""
        names = axes_of(self.on, x) if self.on is not None else x.of_role("time") or x.of_role("space")
        return tuple(name for name in names if name != "c")

    def turned(self, x: TensorType) -> Size:
        return x.size("c") if self.dim is None else self.dim

    def emit(self, code: Emission, x: Term) -> Term:
        type_ = code.inputs[0]
        x = code.last(x, ("c",))
        named = {"base": code.const(float(self.base))} if self.base != 10000 else {}
        if self.turned(type_) != type_.size("c"):
            named["dim"] = code.size(self.turned(type_))
        if self.interleaved:
            named["interleaved"] = "True"
        options = "".join(f", {name}={value}" for name, value in named.items())
        return Term(f"{code.helper('rotary')}({x.code}, {x.order.index(self.along(type_)[0])}{options})", x.order)

    def reference(self, types: Types, x: Named) -> Named:
        import torch

        (axis,), dim = self.along(types.inputs[0]), whole(self.turned(types.inputs[0]))
        kept = [name for name in x.names if name not in (axis, "c")]
        rows = x.to((*kept, axis, "c")).clone()
        out = rows.clone()
        for p in range(rows.shape[-2]):
            for i in range(dim // 2):
                a, b = (2 * i, 2 * i + 1) if self.interleaved else (i, i + dim // 2)
                angle = torch.tensor(p / float(self.base) ** (2 * i / dim), dtype=torch.float64)
                out[..., p, a] = rows[..., p, a] * angle.cos() - rows[..., p, b] * angle.sin()
                out[..., p, b] = rows[..., p, b] * angle.cos() + rows[..., p, a] * angle.sin()
        return Named(out, (*kept, axis, "c"))


@register
class Sinusoid(Primitive):
    """table[p, 2 i] = sin(p / base^(2 i / c)), table[p, 2 i + 1] = cos of it: the positions of x along one axis, to be
    added to it (Vaswani et al., NeurIPS 2017). The result has that axis and `c`.
    """

    name: ClassVar[str] = "sinusoid"

    base: Number = 10000
    on: Axes | None = None

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, ("c",))
        if len(self.along(x)) != 1:
            raise OpError(
                "A319",
                f"`sinusoid` is along one axis, and {x} has {', '.join(self.along(x)) or 'none'}",
                "on",
                help="name it: `on = t`",
            )
        if not facts.divides(2, x.size("c")):
            raise OpError("A204", f"`sinusoid` makes pairs of channels, and `c` is {x.size('c')}", "x")
        return TensorType((x[self.along(x)[0]], x["c"]), x.dtype)

    def along(self, x: TensorType) -> tuple[str, ...]:
        names = axes_of(self.on, x) if self.on is not None else x.of_role("time") or x.of_role("space")
        return tuple(name for name in names if name != "c")

    def emit(self, code: Emission, x: Term) -> Term:
        axis, c = code.outputs[0].axes
        base = f", base={code.const(float(self.base))}" if self.base != 10000 else ""
        made = f"dtype={code.working()}, device={code.device()}{base}"
        return Term(f"{code.helper('sinusoid')}({code.size(axis.size)}, {code.size(c.size)}, {made})", (axis.name, "c"))

    def reference(self, types: Types, x: Named) -> Named:
        axis, c = types.outputs[0].axes
        table = x.tensor.new_empty(whole(axis.size), whole(c.size))
        for p in range(table.shape[0]):
            for i in range(0, table.shape[1], 2):
                angle = table.new_tensor(p / float(self.base) ** (i / table.shape[1]))
                table[p, i], table[p, i + 1] = angle.sin(), angle.cos()
        return Named(table, (axis.name, "c"))
