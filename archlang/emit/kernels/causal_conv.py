"""Causal convolutions of each channel."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served
from archlang.primitive import Primitive


class CausalConv(Kernel):
    """Channels last, as linear layers leave them; nothing padded, nothing turned around."""

    op: ClassVar[str] = "causal_conv"
    helper: ClassVar[str] = "causal_conv"
    does: ClassVar[str] = "channels last, nothing padded or copied, with bias and activation"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        return Served({})

    def joined(self, features: Sequence[Features]) -> Features:
        return {}
