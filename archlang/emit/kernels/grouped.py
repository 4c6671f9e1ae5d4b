"""Linear layers of all experts at once."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served
from archlang.primitive import Primitive


class GroupedLinear(Kernel):
    """One product, whose tiles find their expert by counting."""

    op: ClassVar[str] = "grouped_linear"
    helper: ClassVar[str] = "grouped_linear"
    does: ClassVar[str] = "the layers of all experts in one product, weights where they lie"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        return Served({})

    def joined(self, features: Sequence[Features]) -> Features:
        return {}
