"""Rational activations: quotients of learned polynomials, safe from poles."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, OpError, Param, Primitive, Term, Types, Whole, describe, need_axes, register
from archlang.primitives.sliding import need_float
from archlang.shapes import TensorType

# Fits of degree 5 over 4 on [-3, 3] (largest errors 2e-3, 1e-6, 3e-6). The denominators are even and positive, so that
# both forms of Q start as the same function.
STARTS = {
    "identity": ((0.0, 1.0), ()),
    "gelu": ((-0.0012994, 0.5, 0.408071, 0.1063724, 0.0084293), (0.0, 0.2127448)),
    "silu": ((0.0, 0.5, 0.24999736, 0.05326513, 0.0058025444, 0.0002751339), (0.0, 0.10653026, 0.0, 0.0005502678)),
    "tanh": ((0.0, 0.9999942, 0.0, 0.1077054, 0.0, 0.000870977), (0.0, 0.4410109, 0.0, 0.0145799)),
}


def _degrees(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(type(degree) is int for degree in value):
        raise ValueError(f"must be the degrees of two polynomials, as [5, 4], and is {describe(value)}")
    return tuple(value)


@register
class Rational(Primitive):
    """y = P(x) / Q(x), P = sum a_i x^i of degree m and Q = 1 + sum |b_j x^j|, 1 <= j <= n, for `order = [m, n]`.

    With `denominator = "whole"`, Q = 1 + |sum b_j x^j|. Each of `groups` groups of neighbouring channels has a Q; one P
    is `shared` by all, or each group has its own. Q is never below 1. `like` is the function that it starts as:
    "identity", "gelu", "silu" or "tanh". Safe Pade units: Molina et al., ICLR 2020, arXiv:1907.06732; in groups:
    Yang and Wang (KAT), ICLR 2025, arXiv:2409.10594. Numerator: [1 or groups, m + 1], denominator: [groups, n].
    """

    name: ClassVar[str] = "rational"
    prefers: ClassVar[str | None] = "last"

    groups: Whole = 8
    order: Annotated[tuple[int, ...], BeforeValidator(_degrees)] = (5, 4)
    like: Literal["identity", "gelu", "silu", "tanh"] = "identity"
    denominator: Literal["terms", "whole"] = "terms"
    shared: bool = True

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_axes(x, ("c",))
        need_float(x, self)
        if not isinstance(self.groups, int) or self.groups < 1:
            raise OpError("A319", f"`groups` must be at least 1, and is {self.groups}", "groups")
        if not facts.divides(self.groups, x.size("c")):
            title = f"`rational` in {self.groups} groups, and c = {x.size('c')} is not a multiple of that"
            raise OpError("A204", title, "groups")
        least = tuple(map(len, STARTS[self.like]))
        if self.order[0] + 1 < least[0] or self.order[1] < max(least[1], 1):
            needed = f"[{least[0] - 1}, {max(least[1], 1)}]"
            about = f"starts as `{self.like}`, which needs an order of at least {needed}"
            raise OpError("A319", f"`rational` {about}, not [{self.order[0]}, {self.order[1]}]", "order")
        return x

    def params(self, x: TensorType) -> dict[str, Param]:
        numerators = 1 if self.shared else self.groups
        return {
            "numerator": Param((numerators, self.order[0] + 1), ("groups", "power")),
            "denominator": Param((self.groups, self.order[1]), ("groups", "power")),
        }

    def emit(self, code: Emission, x: Term) -> Term:
        numerator, denominator = STARTS[self.like]
        starts = (
            numerator + (0.0,) * (self.order[0] + 1 - len(numerator)),
            denominator + (0.0,) * (self.order[1] - len(denominator)),
        )
        shared = {} if self.shared else {"shared": "False"}
        whole = {"whole": "True"} if self.denominator == "whole" else {}
        module = code.module("GroupRational", code.size(self.groups), *map(code.const, starts), **shared, **whole)
        x = code.last(x, ("c",))
        return Term(f"{module}({x.code})", x.order)

    def memory(self, x: TensorType) -> Memory:
        return Memory({"x": ""}, work=x.bytes * 4, back=x.bytes * 8)

    def reference(self, types: Types, x: Named, numerator: Any, denominator: Any) -> Named:
        import torch

        group = torch.arange(x.size("c")) * self.groups // x.size("c")  # of each channel
        a = numerator.expand(self.groups, -1)[group]
        one, p, q = x.map(torch.ones_like), x.map(torch.zeros_like), x.map(torch.zeros_like)
        power = one
        for i in range(self.order[0] + 1):
            p = p + power * Named(a[:, i], ("c",))
            power = power * x
        power = one
        for column in denominator[group].unbind(1):
            power = power * x
            term = power * Named(column, ("c",))
            q = q + (term if self.denominator == "whole" else term.map(torch.abs))
        return p / (q.map(torch.abs) + 1)
