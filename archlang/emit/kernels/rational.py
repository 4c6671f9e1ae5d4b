"""Rational activations."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served, refused
from archlang.primitive import Primitive
from archlang.primitives.kan_rational import Rational

POWERS = 12  # of both polynomials together, whose sums stay in registers


class GroupRational(Kernel):
    """One pass over x, and no atomics for the coefficients."""

    op: ClassVar[str] = "rational"
    helper: ClassVar[str] = "group_rational"
    does: ClassVar[str] = "one pass, slopes of coefficients summed in registers"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        assert isinstance(op, Rational)
        if sum(op.order) + 1 > POWERS:
            return refused(f"the polynomials have more than {POWERS} coefficients together")
        return Served({"numerator": op.order[0] + 1, "denominator": op.order[1]})

    def joined(self, features: Sequence[Features]) -> Features:
        longest = {name: max(each[name] for each in features) for name in features[0]}
        return {**longest, "mixed": any(each != longest for each in features)}
