"""Routing: which expert takes which token, and how evenly."""

from fractions import Fraction
from typing import ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import (
    AxisName,
    Emission,
    Number,
    OpError,
    Primitive,
    Term,
    Types,
    Whole,
    need_named,
    register,
)
from archlang.primitives.broadcast import known, refuse
from archlang.shapes import SCALAR, TensorType, is_float
from archlang.sizes import Size, floor, product


def _need_choices(index: TensorType, on: str) -> None:
    need_named(index, [on], "index")
    if index.dtype != "int":
        raise refuse(index, "the choice of an expert is a whole number", "`top_k` gives one", "index")


@register
class LoadBalance(Primitive):
    """y = E * sum over the experts e of f[e] * P[e], the balance loss (Fedus et al., JMLR 2022, eq. 4-6).

    P[e] is the mean of `probability` [.., on = E] over all tokens, f[e] the part of the tokens that e is among the
    choices of, from `index` int[.., on = k]; an even load gives k.
    """

    name: ClassVar[str] = "load_balance"
    inputs: ClassVar[tuple[str, ...]] = ("probability", "index")

    on: AxisName

    def infer(self, facts: Facts, probability: TensorType, index: TensorType) -> TensorType:
        need_named(probability, [self.on], "probability")
        _need_choices(index, self.on)
        if not is_float(probability.dtype):
            raise refuse(probability, "`load_balance` takes float", "`softmax`", "probability")
        if set(probability.names) != set(index.names):
            raise OpError("A205", f"`index` has the axes of `probability`, {probability}, and is {index}", "index")
        return TensorType(SCALAR.axes, probability.dtype)

    def emit(self, code: Emission, probability: Term, index: Term) -> Term:
        terms = [code.last(term, [self.on]).code for term in (probability, index)]
        return Term(f"{code.helper('load_balance')}({', '.join(terms)})", ())

    def memory(self, probability: TensorType, index: TensorType) -> Memory:
        """How often each expert is chosen."""
        each = probability.without(*(name for name in probability.names if name != self.on)).bytes
        return Memory(kept=each, work=index.bytes * 2)

    def reference(self, types: Types, probability: Named, index: Named) -> Named:
        rest = [name for name in probability.names if name != self.on]
        rows, choices = probability.to((*rest, self.on)).flatten(0, -2), index.to((*rest, self.on)).flatten(0, -2)
        experts = rows.shape[-1]
        frequency = [(choices == e).any(-1).to(rows.dtype).mean() for e in range(experts)]
        return Named(sum(f * rows[:, e].mean() for e, f in enumerate(frequency)) * experts, ())

    def mixes(self, probability: TensorType, index: TensorType) -> frozenset[str]:
        return frozenset(probability.names)


@register
class LimitLoad(Primitive):
    """The choices of experts, with `experts`, which is nobody, for those beyond the capacity of an expert.

    Within each sample, an expert takes the first ceil(capacity * choices / experts) tokens that choose it, in order
    (Lepikhin et al., ICLR 2021): no choice depends on later tokens or on other samples.
    """

    name: ClassVar[str] = "limit_load"
    inputs: ClassVar[tuple[str, ...]] = ("index",)

    experts: Whole
    capacity: Number
    on: AxisName

    def infer(self, facts: Facts, index: TensorType) -> TensorType:
        _need_choices(index, self.on)
        if index[self.on].role == "batch":
            raise OpError("A205", f"the choices of a token are along an axis, and `{self.on}` counts samples", "on")
        if self.capacity <= 0:
            raise OpError("A319", f"an expert has a capacity above 0, and this is {self.capacity}", "capacity")
        if not index.of_role("batch"):
            raise OpError("A205", f"the capacity is that of a sample, and there is no batch axis in {index}", "index")
        return index

    def limit(self, index: TensorType) -> Size:
        """How many choices an expert takes of a sample."""
        part = Fraction(str(self.capacity)) / self.experts
        choices = product(axis.size for axis in index if axis.role != "batch")
        return floor((choices * part.numerator + (part.denominator - 1)) * Fraction(1, part.denominator))

    def emit(self, code: Emission, index: Term) -> Term:
        batch = code.inputs[0].of_role("batch")
        order = (*batch, *(name for name in index.order if name not in (*batch, self.on)), self.on)
        numbers = [code.size(size) for size in (self.experts, self.limit(code.inputs[0]))]
        dims = f", {len(batch)}" if len(batch) > 1 else ""
        index = code.permute(index, order)
        return Term(f"{code.helper('limit_load')}({index.code}, {', '.join(numbers)}{dims})", order)

    def reference(self, types: Types, index: Named) -> Named:
        batch = types.inputs[0].of_role("batch")
        order = (*batch, *(name for name in index.names if name not in (*batch, self.on)), self.on)
        chosen, limit = index.to(order).clone(), known(self.limit(types.inputs[0]))
        for sample in chosen.flatten(0, len(batch) - 1).flatten(1):  # views: one row of choices a sample
            load = [0] * known(self.experts)
            for i, expert in enumerate(sample.tolist()):
                load[expert] += 1
                if load[expert] > limit:
                    sample[i] = known(self.experts)
        return Named(chosen, order)

    def mixes(self, index: TensorType) -> frozenset[str]:
        return frozenset(axis.name for axis in index if axis.role != "batch")

    def looks_ahead(self, index: TensorType) -> frozenset[str]:
        """Of the tokens of a sample, those before count."""
        return self.mixes(index) - frozenset(index.of_role("time"))
