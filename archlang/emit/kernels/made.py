"""Kernels of operations that passes make for them: every application is taken."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served, refused
from archlang.primitive import Primitive

EXPERTS = 1024  # whose scores a program holds


class CausalConv(Kernel):
    """Channels last, as linear layers leave them; nothing padded, nothing turned around."""

    op: ClassVar[str] = "causal_conv"
    helper: ClassVar[str] = "causal_conv"
    does: ClassVar[str] = "channels last, nothing padded or copied, with bias and activation"


class WideDepthwise(Kernel):
    """Channels last, nothing padded; slopes of weights summed without atomics."""

    op: ClassVar[str] = "wide_depthwise"
    helper: ClassVar[str] = "wide_depthwise"
    does: ClassVar[str] = "channels last, a place is read once for several rows"


class LinearCrossEntropy(Kernel):
    """The logits of some rows at a time, with their slopes in their place."""

    op: ClassVar[str] = "linear_cross_entropy"
    helper: ClassVar[str] = "linear_cross_entropy"
    does: ClassVar[str] = "the logits of some rows at a time, gradients made with the loss"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        return Served({"each": op.loss.reduction is None})  # type: ignore[attr-defined]

    def joined(self, features: Sequence[Features]) -> Features:
        return {"each": any(each["each"] for each in features)}


class GroupedLinear(Kernel):
    """One product for the layers of all experts, whose tiles find their expert by counting."""

    op: ClassVar[str] = "grouped_linear"
    helper: ClassVar[str] = "grouped_linear"
    does: ClassVar[str] = "the layers of all experts in one product, weights where they lie"


class SortedChoices(Kernel):
    """A sort of numbers that are few, in two passes."""

    op: ClassVar[str] = "sorted_choices"
    helper: ClassVar[str] = "sorted_choices"
    does: ClassVar[str] = "choices sorted by counting, block by block"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        experts: int = op.experts  # type: ignore[attr-defined]
        return Served({}) if experts < EXPERTS else refused(f"there are {EXPERTS} experts and more")


class Combine(Kernel):
    """A gather with weights, where PyTorch scatters, multiplies and adds."""

    op: ClassVar[str] = "combine"
    helper: ClassVar[str] = "combine"
    does: ClassVar[str] = "rows of experts weighted and summed where they lie"


class TopKRouting(Kernel):
    """The largest of a row one after another, in registers."""

    op: ClassVar[str] = "top_k_routing"
    helper: ClassVar[str] = "top_k_routing"
    does: ClassVar[str] = "scores, the largest of them and their weights in one pass"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        experts: int = types[0].size(op.on)  # type: ignore[attr-defined]
        if experts > EXPERTS:
            return refused(f"there are more than {EXPERTS} experts")
        return Served({"groups": op.groups is not None})  # type: ignore[attr-defined]

    def joined(self, features: Sequence[Features]) -> Features:
        return {"groups": any(each["groups"] for each in features)}


class _OfBasis(Kernel):
    """What works the functions of a basis out in registers."""

    stands_on: ClassVar[str] = "bases"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        basis: Any = op.basis  # type: ignore[attr-defined]
        return Served({"kind": basis.name, "order": basis.order if basis.name == "bspline" else None})

    def joined(self, features: Sequence[Features]) -> Features:
        orders = {each["order"] for each in features} - {None}
        return {"kinds": sorted({each["kind"] for each in features}), "orders": sorted(orders)}


class BasisLinear(_OfBasis):
    """A product whose one side is worked out in registers, tile by tile."""

    op: ClassVar[str] = "basis_linear"
    helper: ClassVar[str] = "basis_linear"
    does: ClassVar[str] = "the functions of a basis worked out where the product reads them"


class BasisCurve(_OfBasis):
    """One pass over x: all functions of a number are summed before the next is read."""

    op: ClassVar[str] = "basis_curve"
    helper: ClassVar[str] = "basis_curve"
    does: ClassVar[str] = "one pass, the functions of a basis in registers"
