"""Normalisations by Euclidean length."""

from typing import Any, ClassVar

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Axes, Emission, OpError, Param, Primitive, Term, Types, need_axes, register
from archlang.primitives.norm import Epsilon, affine_params, epsilon
from archlang.primitives.sliding import need_float, present
from archlang.shapes import TensorType


@register
class L2Norm(Primitive):
    """y = x / max(|x|, eps), the Euclidean length over `on` at each position; `F.normalize`. Causal."""

    name: ClassVar[str] = "l2_norm"

    eps: Epsilon = 1e-12
    on: Axes = ("c",)

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        present(self.on, x, self)
        return x

    def emit(self, code: Emission, x: Term) -> Term:
        places = [str(x.at(name)) for name in present(self.on, code.inputs[0], self)]
        dim = places[0] if len(places) == 1 else f"({', '.join(places)})"
        eps = "" if self.eps == 1e-12 else f", eps={code.const(self.eps)}"
        return Term(f"F.normalize({x.code}, dim={dim}{eps})", x.order)

    def memory(self, x: TensorType) -> Memory:
        """The length at each position, and what it is at least."""
        lengths = x.without(*present(self.on, x, self)).bytes
        return Memory({"x": ""}, kept=lengths * 2, back=x.bytes * 2)

    def reference(self, types: Types, x: Named) -> Named:
        square = (x * x).sum(present(self.on, types.inputs[0], self))
        return x / square.map(lambda total: total.sqrt().clamp(min=self.eps))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(present(self.on, x, self))


@register
class GRN(Primitive):
    """y = x + weight[c] * x * g / (mean over c of g + eps) + bias[c], g[c] the Euclidean length of x over `on`.

    `on` is all space and time axes. Global response normalisation: Woo et al. 2023 (ConvNeXt V2), arXiv:2301.00808.
    The weights start at zero, so it starts as the identity.
    """

    name: ClassVar[str] = "grn"
    prefers: ClassVar[str | None] = "last"

    eps: Epsilon = 1e-6
    on: Axes = ("space", "time")

    def infer(self, facts: Facts, x: TensorType) -> TensorType:
        need_float(x, self)
        need_axes(x, ("c",))
        if "c" in present(self.on, x, self):
            raise OpError("A206", "`grn` compares the channels, and is over other axes", "on")
        return x

    def params(self, x: TensorType) -> dict[str, Param]:
        return affine_params((x.size("c"),), ("c",), "weight", "bias")

    def emit(self, code: Emission, x: Term) -> Term:
        on = present(self.on, code.inputs[0], self)
        x = code.last(x, (*on, "c"))
        axes = {} if len(on) == 2 else {"axes": str(len(on))}
        norm = code.module(
            "GlobalResponseNorm", code.size(code.inputs[0].size("c")), **epsilon(code, self.eps, 1e-6), **axes
        )
        return Term(f"{norm}({x.code})", x.order)

    def memory(self, x: TensorType) -> Memory:
        """The lengths, their shares, and the values times these."""
        lengths = x.without(*present(self.on, x, self)).bytes
        share = x.without("c", *present(self.on, x, self)).bytes
        return Memory({"x": ""}, kept=x.bytes + lengths * 2 + share, back=x.bytes * 2)

    def reference(self, types: Types, x: Named, weight: Any, bias: Any) -> Named:
        length = (x * x).sum(present(self.on, types.inputs[0], self)).map(lambda total: total.sqrt())
        response: Named = length / (length.mean(("c",)) + self.eps)
        return x + x * response * Named(weight, ("c",)) + Named(bias, ("c",))

    def mixes(self, x: TensorType) -> frozenset[str]:
        return frozenset(("c", *present(self.on, x, self)))
