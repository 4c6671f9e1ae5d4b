"""Biases of attention along one axis, for any length: by distance, or by a bucket of distances."""

from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, OpError, Param, Term, Types, Whole, axes_of, register
from archlang.primitives.attention_code import layout, whole
from archlang.primitives.init import Start
from archlang.primitives.near import reaches
from archlang.primitives.position import Bias
from archlang.shapes import Axis, TensorType
from archlang.sizes import product


class AlongOne(Bias):
    """A bias along one axis, between heads whose number is known."""

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        if len(self.extents(q, k)) != 1:
            found = ", ".join(axes_of(self.on, k)) or "none"
            raise OpError("A319", f"`{self.name}` is along one axis, and {k} has {found}", "on")
        if not isinstance(self.head_count(q), int):
            raise OpError("A319", f"`{self.name}` needs to know the number of heads, {self.head_count(q)}", "q")
        return super().infer(facts, q, k)

    def resumes(self, q: TensorType, k: TensorType) -> bool:
        return True

    def resume(self, code: Emission, q: Term, k: Term) -> Term:
        """Queries of the positions at hand and all keys; a table by offset knows no positions."""
        (axis,) = layout(self.on, *code.inputs).keys
        return self._written(code, f", past={code.past(axis)}" if axis.role == "time" else "")

    def _written(self, code: Emission, past: str = "") -> Term:
        raise NotImplementedError


@register
class Alibi(AlongOne):
    """bias[head, i, j] = -slope[head] |i - j|, slope[head] = 2^(-8 (head + 1) / heads), along one axis.

    For a number of heads that is no power of two, the slopes of the power below and then every other one of the power
    above (Press et al., ICLR 2022). Over a domain that moves with the query, whose size is known, it is bias[heads, j -
    i] in steps of the domain, the offset 0 in the middle.
    """

    name: ClassVar[str] = "alibi"
    saves: ClassVar[tuple[str, ...]] = ()

    def table(self, q: TensorType, k: TensorType) -> tuple[int, int] | None:
        """How many offsets a domain that moves with the query allows, and the size of a step."""
        parts = layout(self.on, q, k)
        ((reach, step),) = reaches(self.domain(parts), parts.keys) or ((None, None),)
        return (2 * reach - 1, step) if isinstance(reach, int) and isinstance(step, int) else None

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        made = super().infer(facts, q, k)
        if (table := self.table(q, k)) is None:
            return made
        (offset,) = layout(self.on, q, k).offsets
        return TensorType((*self.heads(q), Axis(offset, table[0], "free")))

    def emit(self, code: Emission, q: Term, k: Term) -> Term:
        return self._written(code)

    def _written(self, code: Emission, past: str = "") -> Term:
        (size,), heads = self.extents(*code.inputs), code.size(self.head_count(code.inputs[0]))
        near = f"dtype={code.working()}, device={code.device()}"
        if (table := self.table(*code.inputs)) is None:
            return self.by_head(code, f"{code.helper('alibi')}({heads}, {code.size(size)}, {near}{past})")
        text = f"{code.helper('alibi_by_offset')}({heads}, {', '.join(map(code.size, table))}, {near})"
        laid = Term(text, ("heads", *layout(self.on, *code.inputs).offsets))
        return code.split(laid, "heads", self.heads(code.inputs[0]))

    def reference(self, types: Types, q: Named, k: Named) -> Named:
        import torch

        (size,), count = self.extents(*types.inputs), whole(self.head_count(types.inputs[0]))
        slopes = torch.tensor(_slopes(count), dtype=q.tensor.dtype)
        if (table := self.table(*types.inputs)) is not None:
            bias = -slopes[:, None] * (torch.arange(table[0]) - table[0] // 2).abs() * table[1]
            heads = [whole(axis.size) for axis in self.heads(types.inputs[0])]
            return Named(bias.unflatten(0, heads) if heads else bias[0], types.outputs[0].names)
        i = torch.arange(whole(size), dtype=q.tensor.dtype)
        return self.named(types, -slopes * (i[:, None] - i).abs()[..., None])


def _slopes(heads: int) -> list[float]:
    power = 1 << (heads.bit_length() - 1)
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    return slopes + [2 ** (-4 * (2 * head + 1) / power) for head in range(heads - power)]


@register
class T5Buckets(AlongOne):
    """bias[head, i, j] = weight[bucket(i - j), head]: distances along one axis, in buckets (Raffel et al., T5, JMLR
    2020).

    With n buckets to one side and e = n / 2, a distance d below e has bucket d, another has
    min(e + floor(log(d / e) / log(distance / e) (n - e)), n - 1). All n = `buckets` are for earlier keys where the
    domain is causal; else n is half of them, and later keys have the other half. Weight: [buckets, heads].
    """

    name: ClassVar[str] = "t5_buckets"

    buckets: Whole = 32
    distance: Whole = 128
    init: Start = None

    def infer(self, facts: Facts, q: TensorType, k: TensorType) -> TensorType:
        made = super().infer(facts, q, k)
        sides = 1 if self._is_causal(q, k) else 2
        if not isinstance(self.buckets, int) or self.buckets < 2 * sides or self.buckets % (2 * sides):
            title = f"`buckets` must be a multiple of {2 * sides}, and is {self.buckets}"
            raise OpError("A319", title, "buckets", "half are for single distances" + ", on each side" * (sides - 1))
        least = self.buckets // (2 * sides)
        if not isinstance(self.distance, int) or self.distance <= least:
            raise OpError("A319", f"`distance` must be more than {least}, and is {self.distance}", "distance")
        return made

    def _is_causal(self, q: TensorType, k: TensorType) -> bool:
        parts = layout(self.on, q, k)
        return not self.domain(parts).looks_ahead(parts.keys, parts.keys[0])

    def params(self, q: TensorType, k: TensorType) -> dict[str, Param]:
        return {"weight": Param((self.buckets, self.head_count(q)), ("bucket", "heads"))}

    def emit(self, code: Emission, q: Term, k: Term) -> Term:
        return self._written(code)

    def _written(self, code: Emission, past: str = "") -> Term:
        (size,), heads = self.extents(*code.inputs), self.head_count(code.inputs[0])
        named = {} if self.distance == 128 else {"distance": code.const(self.distance)}
        causal = ", causal=True" if self._is_causal(*code.inputs) else ""
        table = code.module("T5Bias", code.const(self.buckets), code.size(heads), **named)
        code.initialise("weight", self.init)
        return self.by_head(code, f"{table}({code.size(size)}{causal}{past})")

    def memory(self, q: TensorType, k: TensorType) -> Memory:
        """The bucket of every pair, and on the way to it offsets, distances, ranges and a fraction."""
        pairs = product(self.extents(q, k)) ** 2
        return Memory(kept=pairs * 8, work=pairs * (36 if self._is_causal(q, k) else 44))

    def reference(self, types: Types, q: Named, k: Named, *, weight: Any) -> Named:
        import torch

        (size,) = map(whole, self.extents(*types.inputs))
        rows = [[self._bucket(i - j, self._is_causal(*types.inputs)) for j in range(size)] for i in range(size)]
        return self.named(types, weight[torch.tensor(rows)])

    def _bucket(self, back: int, causal: bool) -> int:
        """The bucket of the key that lies so many positions back."""
        from math import log

        count = whole(self.buckets) // (1 if causal else 2)
        apart, single = max(back, 0) if causal else abs(back), count // 2
        bucket = apart
        if apart >= single:
            growth = log(apart / single) / log(whole(self.distance) / single)
            bucket = min(single + int(growth * (count - single) + 1e-9), count - 1)
        return bucket if causal or back >= 0 else bucket + count
