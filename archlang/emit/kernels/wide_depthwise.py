"""Large convolutions of each channel of an image."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served
from archlang.primitive import Primitive


class WideDepthwise(Kernel):
    """Channels last, nothing padded; slopes of weights summed without atomics."""

    op: ClassVar[str] = "wide_depthwise"
    helper: ClassVar[str] = "wide_depthwise"
    does: ClassVar[str] = "channels last, a place is read once for several rows"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        return Served({})

    def joined(self, features: Sequence[Features]) -> Features:
        return {}
