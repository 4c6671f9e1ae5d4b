"""Positions in attention. `role` says how `attend(.., position = P)` uses one: a "bias" over pairs of query and key is
made from q and k, a "rotate" is applied to both.

Here are the tables: a learned bias for every offset or distance.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import InstanceOf

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    Axes,
    Emission,
    OpError,
    Param,
    PerAxis,
    Primitive,
    Term,
    Types,
    axes_of,
    register,
)
from archlang.primitives.attention_code import Layout, layout, whole
from archlang.primitives.domain import Domain, default_domain, extents, per_axis
from archlang.primitives.init import Start
from archlang.primitives.near import reaches
from archlang.shapes import Axis, TensorType
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

    def head_count(self, q: TensorType) -> Size:
        return product(axis.size for axis in self.heads(q))

    def extents(self, q: TensorType, k: TensorType) -> tuple[Size, ...]:
        """The sizes of a cell."""
        parts = layout(self.on, q, k)
        return extents(self.domain(parts), parts.keys)

    def domain(self, parts: Layout) -> Domain:
        return self.over or default_domain(parts.queries)

    def alone(self, q: TensorType, k: TensorType) -> "FixedBias":
        parts = layout(self.on, q, k)
        return FixedBias(bias=self, q=TensorType((*self.heads(q), *parts.queries)), k=TensorType(parts.keys))

    def by_head(self, code: Emission, bias: str) -> Term:
        """A bias [heads, query, key] with the axes that heads are of."""
        return code.split(Term(bias, ("heads", "query", "key")), "heads", self.heads(code.inputs[0]))

    def named(self, types: Types, bias: Any) -> Named:
        """The same of a tensor [query, key, heads]."""
        heads = self.heads(types.inputs[0])
        spread = bias.unflatten(-1, [whole(axis.size) for axis in heads]) if heads else bias[..., 0]
        return Named(spread, ("query", "key", *(axis.name for axis in heads)))


class FixedBias(Primitive):
    """A bias from the heads and places of q and k, without q and k."""

    name: ClassVar[str] = "bias"
    inputs: ClassVar[tuple[str, ...]] = ()
    constant: ClassVar[bool] = True
    saves: ClassVar[tuple[str, ...]] = ()

    bias: InstanceOf[Bias]
    q: InstanceOf[TensorType]
    k: InstanceOf[TensorType]

    def __str__(self) -> str:
        return f"{self.bias} of {self.q} and {self.k}"

    def infer(self, facts: Facts) -> TensorType:
        made = self.bias.infer(facts, self.q, self.k)
        assert isinstance(made, TensorType)
        return made

    def params(self) -> Mapping[str, Param]:
        return self.bias.params(self.q, self.k)

    def macs(self) -> Size:
        return self.bias.macs(self.q, self.k)

    def memory(self) -> Memory:
        return self.bias.memory(self.q, self.k)

    def emit(self, code: Emission) -> Term:
        q, k = (Term("_", type_.names) for type_ in (self.q, self.k))
        made = self.bias.emit(code.standing_in(self.bias, self.q, self.k), q, k)
        assert isinstance(made, Term)
        return made

    def resumes(self) -> bool:
        return self.bias.resumes(self.q, self.k)

    def resume(self, code: Emission) -> Term:
        q, k = (Term("_", type_.names) for type_ in (self.q, self.k))
        made = self.bias.resume(code.standing_in(self.bias, self.q, self.k), q, k)
        assert isinstance(made, Term)
        return made

    def reference(self, types: Types, **weights: Any) -> Named:
        import torch

        q, k = (Named(torch.zeros([whole(axis.size) for axis in t]), t.names) for t in (self.q, self.k))
        made = self.bias.reference(Types((self.q, self.k), types.outputs), q, k, **weights)
        assert isinstance(made, Named)
        return made


class Table(Bias):
    """A bias for every offset between two places of a cell, whose size is known."""

    by_type: ClassVar[bool] = True

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        for size in (*self.extents(q, k), self.head_count(q)):
            if not isinstance(size, int):
                raise OpError("A319", f"`{self.name}` needs a size known at compile time, not {size}", "over")
        return super().infer(facts, q, k)

    def held(self, q: TensorType, k: TensorType) -> str:
        return f"the places of cells of {' x '.join(map(str, self.sizes(q, k)))}"

    def memory(self, q: TensorType, k: TensorType) -> Memory:
        """Which row of the table each pair takes."""
        return Memory(constant=product(self.sizes(q, k)) ** 2 * 8)

    def sizes(self, *types: TensorType) -> tuple[int, ...]:
        return tuple(whole(size) for size in self.extents(*types))

    def rows(self, *types: TensorType) -> Size:
        """How many offsets there are."""
        return product(2 * size - 1 for size in self.extents(*types))

    def cell(self, code: Emission) -> str:
        return tuple_of(code, self.sizes(*code.inputs))


def tuple_of(code: Emission, sizes: Sequence[Size]) -> str:
    """The text of a tuple of sizes."""
    return f"({', '.join(map(code.size, sizes))}{',' if len(sizes) == 1 else ''})"


def offsets(sizes: Sequence[int]) -> Any:
    """The offset from place j to place i of a cell: [query, key, axis]."""
    import torch

    places = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).reshape(-1, len(sizes))
    return places[:, None] - places


def row_of(offset: Any, sizes: Sequence[int]) -> Any:
    """The row of an offset in a table of all, the first axis the slowest."""
    row = 0
    for axis, size in enumerate(sizes):
        row = row * (2 * size - 1) + offset[..., axis] + size - 1
    return row


@register
class Relative(Table):
    """bias[heads, i, j] = weight[index(i - j), heads], one row per offset between two places of a cell.

    For a cell of w_1 x w_2 the offset (d_1, d_2) has row (d_1 + w_1 - 1) * (2 w_2 - 1) + d_2 + w_2 - 1, as Swin
    Transformer's table (Liu et al., ICCV 2021), and so for 1 and 3 axes. Weight: [(2 w_1 - 1)(2 w_2 - 1), heads],
    started at a truncated normal of 0.02. With `window`, the table is that of a larger cell, which leaves rows unused.

    Over a domain that moves with the query (`neighborhood`, `sliding`, `radius`, `chunks`) it is bias[heads, j - i] in
    steps of the domain, as of Neighborhood Attention (Hassani et al., CVPR 2023): the table itself, [heads, 2 k_1 - 1,
    2 k_2 - 1] with the offset 0 in its middle.
    """

    name: ClassVar[str] = "relative"

    window: PerAxis = 0
    init: Start = None

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        if (near := self.near(q, k)) is not None:
            return self.by_offset(facts, q, k, near)
        made = super().infer(facts, q, k)
        for axis, size, cell in zip(layout(self.on, q, k).keys, self.table(q, k), self.sizes(q, k), strict=True):
            if not isinstance(size, int) or size < cell:
                title = f"a table for a window of {size} along `{axis.name}`, where the cell has {cell}"
                raise OpError("A319", title, "window")
        return made

    def table(self, q: TensorType, k: TensorType) -> tuple[Size, ...]:
        """The cell that the table is for."""
        given = [per_axis(self.window, axis, 0) for axis in layout(self.on, q, k).keys]
        return tuple(size or cell for size, cell in zip(given, self.extents(q, k), strict=True))

    def near(self, q: TensorType, k: TensorType) -> tuple[Size, ...] | None:
        """The sizes of the table over a domain that moves with the query."""
        parts = layout(self.on, q, k)
        found = reaches(self.domain(parts), parts.keys)
        return None if found is None else tuple(2 * reach - 1 for reach, _ in found)

    def by_offset(self, facts: Facts, q: TensorType, k: TensorType, near: Sequence[Size]) -> TensorType:
        if any(not isinstance(size, int) for size in (*near, self.head_count(q))):
            raise OpError("A319", f"`{self.name}` needs sizes known at compile time", "over")
        Bias.infer(self, facts, q, k)
        axes = zip(layout(self.on, q, k).offsets, near, strict=True)
        return TensorType((*self.heads(q), *(Axis(name, size, "free") for name, size in axes)))

    def params(self, q: TensorType, k: TensorType) -> dict[str, Param]:
        if (near := self.near(q, k)) is not None:
            return {"weight": Param((self.head_count(q), *near), ("heads", *layout(self.on, q, k).offsets))}
        rows = product(2 * size - 1 for size in self.table(q, k))
        return {"weight": Param((rows, self.head_count(q)), ("offset", "heads"))}

    def held(self, q: TensorType, k: TensorType) -> str:
        return super().held(q, k) if self.near(q, k) is None else ""

    def emit(self, code: Emission, q: Term, k: Term) -> Term:
        heads = code.size(self.head_count(code.inputs[0]))
        if (near := self.near(*code.inputs)) is not None:
            code.module("OffsetTable", heads, tuple_of(code, near))
            code.initialise("weight", self.init)
            laid = Term(code.weight("weight"), ("heads", *layout(self.on, *code.inputs).offsets))
            return code.split(laid, "heads", self.heads(code.inputs[0]))
        table = self.table(*code.inputs)
        named = {"table": tuple_of(code, table)} if table != self.sizes(*code.inputs) else {}
        bias = code.module("RelativePosition", self.cell(code), heads, **named)
        code.initialise("weight", self.init)
        return self.by_head(code, f"{bias}()")

    def memory(self, q: TensorType, k: TensorType) -> Memory:
        """A row of the table for every pair; what moves with the query takes the table itself."""
        if self.near(q, k) is not None:
            return Memory(weight=True)
        return super().memory(q, k)

    def reference(self, types: Types, q: Named, k: Named, *, weight: Any) -> Named:
        if self.near(*types.inputs) is not None:
            heads = [whole(axis.size) for axis in self.heads(types.inputs[0])]
            return Named(weight.unflatten(0, heads) if heads else weight[0], types.outputs[0].names)
        table = [whole(size) for size in self.table(*types.inputs)]
        return self.named(types, weight[row_of(offsets(self.sizes(*types.inputs)), table)])


@register
class Distance(Table):
    """bias[heads, i, j] = weight[index(|i - j|), heads], one row per distance along each axis of a cell.

    For a cell of w_1 x w_2 the distances (d_1, d_2) have row d_1 w_2 + d_2, as LeViT's attention biases (Graham et al.,
    ICCV 2021). Weight: [w_1 w_2, heads], started at 0.
    """

    name: ClassVar[str] = "distance"

    init: Start = None

    def params(self, q: TensorType, k: TensorType) -> dict[str, Param]:
        return {"weight": Param((product(self.extents(q, k)), self.head_count(q)), ("distance", "heads"))}

    def emit(self, code: Emission, q: Term, k: Term) -> Term:
        table = code.module("DistanceBias", self.cell(code), code.size(self.head_count(code.inputs[0])))
        code.initialise("weight", self.init)
        return self.by_head(code, f"{table}()")

    def reference(self, types: Types, q: Named, k: Named, *, weight: Any) -> Named:
        sizes, row = self.sizes(*types.inputs), 0
        apart = offsets(sizes).abs()
        for axis, size in enumerate(sizes):
            row = row * size + apart[..., axis]
        return self.named(types, weight[row])
