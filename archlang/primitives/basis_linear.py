"""Sums of curves in a basis of functions as one operation: what passes make where kernels are written."""

from typing import Any, ClassVar

from pydantic import InstanceOf

from archlang.facts import Facts
from archlang.memory import Memory
from archlang.named import Named
from archlang.primitive import Emission, Primitive, Term, Types
from archlang.primitives.kan import TERM, Basis
from archlang.primitives.linear import Linear
from archlang.shapes import TensorType
from archlang.sizes import Size


class BasisLinear(Primitive):
    """y[.., u] = offset[u] + sum over c and k of weight[u, c, k] basis(x[.., c])[k]: a `linear` of a basis, whose
    values are nowhere in memory. The weight is that of another layer; `knots` are those of splines.
    """

    name: ClassVar[str] = "basis_linear"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight", "offset?", "knots?")
    prefers: ClassVar[str | None] = "last"

    basis: InstanceOf[Basis]
    linear: InstanceOf[Linear]

    def infer(self, facts: Facts, x: TensorType, weight: TensorType, *others: TensorType | None) -> TensorType:
        return self.linear.infer(facts, self.basis.infer(facts, x), weight)

    def emit(
        self, code: Emission, x: Term, weight: Term, offset: Term | None = None, knots: Term | None = None
    ) -> Term:
        x = code.last(x, ("c",))
        on = ("on",) if "on" in weight.order else ("c", "term")
        matrix = code.flat(code.permute(weight, ("units", *on)), on, "on")
        function, given = self.basis.function(code, knots)
        text = f"{code.helper('basis_linear')}({', '.join([x.code, matrix.code, function, *given])})"
        if offset is not None:
            text = f"{text} + {offset.code}"
        made = self.linear.made(self.basis.infer(Facts(), code.inputs[0]))
        return code.split(Term(text, (*x.order[:-1], "units"), tight=offset is None), "units", made)

    def reference(
        self, types: Types, x: Named, weight: Named, offset: Named | None = None, knots: Named | None = None
    ) -> Named:
        values, inner = _values(self.basis, types, x, knots)
        return self.linear.reference(Types((inner,), types.outputs), values, weight, offset)

    def memory(self, x: TensorType, weight: TensorType, *others: Any) -> Memory:
        """The kernel works the functions out again."""
        return Memory({"x": "", "weight": ""})

    def macs(self, x: TensorType, weight: TensorType, *others: Any) -> Size:
        return self.linear.macs(self.basis.infer(Facts(), x))

    def mixes(self, x: TensorType, weight: TensorType, *others: Any) -> frozenset[str]:
        return frozenset({"c"})


class BasisCurve(Primitive):
    """y[.., c] = sum over k of weight[c, k] basis(x[.., c])[k]: a curve for each channel, whose functions are nowhere
    in memory; `knots` are those of splines.
    """

    name: ClassVar[str] = "basis_curve"
    inputs: ClassVar[tuple[str, ...]] = ("x", "weight", "knots?")
    prefers: ClassVar[str | None] = "last"

    basis: InstanceOf[Basis]

    def infer(self, facts: Facts, x: TensorType, weight: TensorType, knots: TensorType | None = None) -> TensorType:
        return x

    def emit(self, code: Emission, x: Term, weight: Term, knots: Term | None = None) -> Term:
        x, weight = code.last(x, ("c",)), code.permute(weight, ("c", TERM))
        function, given = self.basis.function(code, knots)
        return Term(f"{code.helper('basis_curve')}({', '.join([x.code, weight.code, function, *given])})", x.order)

    def reference(self, types: Types, x: Named, weight: Named, knots: Named | None = None) -> Named:
        made: Named = (_values(self.basis, types, x, knots)[0] * weight).sum((TERM,))
        return made

    def memory(self, x: TensorType, weight: TensorType, *others: Any) -> Memory:
        """The kernel works the functions out again."""
        return Memory({"x": "", "weight": ""})


def _values(basis: Basis, types: Types, x: Named, knots: Named | None) -> tuple[Any, TensorType]:
    """The values of all functions, and their type."""
    inner = basis.infer(Facts(), types.inputs[0])
    grid = {} if knots is None else {"grid": knots.to(("c", "knots"))}
    return basis.reference(Types(types.inputs[:1], (inner,)), x, **grid), inner
