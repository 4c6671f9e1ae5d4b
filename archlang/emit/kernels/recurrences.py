"""Linear recurrences: chunks by matrix products, states in registers."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served, refused
from archlang.primitive import Primitive
from archlang.primitives.recurrence import LinearRecurrence as Recurrence
from archlang.primitives.recurrence_code import form

WIDEST = 256  # of a head, whose state a program holds


class LinearRecurrence(Kernel):
    """Keys meet queries under the decays between them."""

    op: ClassVar[str] = "linear_recurrence"
    helper: ClassVar[str] = "linear_recurrence"
    does: ClassVar[str] = "chunks in one pass, the state in registers, decays exact at any strength"
    beta: ClassVar[bool] = False

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        assert isinstance(op, Recurrence)
        parts = form(op, *types)
        if parts.beta != self.beta:
            return refused("it is the delta rule" if parts.beta else "it is not the delta rule")
        if parts.decay == "pair":
            return refused("a decay for each pair of channels leaves no matrix products")
        sizes = [types[i].size("c") for i in (0, 2)]
        if any(isinstance(size, int) and size > WIDEST for size in sizes):
            return refused(f"heads are wider than {WIDEST}")
        return Served({"channels": parts.decay == "key"})

    def joined(self, features: Sequence[Features]) -> Features:
        return {"channels": any(each["channels"] for each in features)}
