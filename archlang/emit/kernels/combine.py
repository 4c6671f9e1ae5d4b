"""Results of experts, back at their tokens."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served
from archlang.primitive import Primitive


class Combine(Kernel):
    """A gather with weights, where PyTorch scatters, multiplies and adds."""

    op: ClassVar[str] = "combine"
    helper: ClassVar[str] = "combine"
    does: ClassVar[str] = "rows of experts weighted and summed where they lie"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        return Served({})

    def joined(self, features: Sequence[Features]) -> Features:
        return {}
