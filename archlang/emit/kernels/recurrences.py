"""Linear recurrences: chunks by matrix products, states in registers."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served, refused
from archlang.primitive import Primitive
from archlang.primitives.recurrence_code import form, is_stepwise
from archlang.primitives.selective_scan import SelectiveScan as Scan

WIDEST = 256  # of a head, whose state a program holds
WIDEST_STEP = 1024  # of a head, of whose state a program holds some columns
STATES = 128  # of a channel, which one warp holds


class _Recurrence(Kernel):
    """What both rules ask for. The one says nothing of applications of the other."""

    op: ClassVar[str] = "linear_recurrence"
    stands_on: ClassVar[str] = "chunks"
    delta: ClassVar[bool]  # whether the rule is the one of `beta`

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        parts = form(op, *types)
        if parts.beta != self.delta:
            return refused("")
        if parts.decay == "pair":
            return refused("a decay for each pair of channels leaves no matrix products")
        if is_stepwise(parts):
            return refused("")
        size = types[1].size("c")
        if isinstance(size, int) and size > WIDEST:
            return refused(f"heads are wider than {WIDEST}")
        return Served({"channels": parts.decay == "key"})

    def joined(self, features: Sequence[Features]) -> Features:
        return {"channels": any(each["channels"] for each in features)}


class LinearRecurrence(_Recurrence):
    """Keys meet queries under the decays between them."""

    helper: ClassVar[str] = "linear_recurrence"
    does: ClassVar[str] = "chunks in one pass, the state in registers, decays exact at any strength"
    delta: ClassVar[bool] = False


class DeltaRule(_Recurrence):
    """What a chunk writes is solved for beside the state."""

    helper: ClassVar[str] = "delta_rule"
    does: ClassVar[str] = "triangular systems inverted side by side, then one pass with the state in registers"
    delta: ClassVar[bool] = True


class RecurrenceSteps(Kernel):
    """One position, in all forms."""

    op: ClassVar[str] = "linear_recurrence"
    helper: ClassVar[str] = "recurrence_steps"
    does: ClassVar[str] = "one position, the state read once and written once"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        if form(op, *types).on.size != 1:
            return refused("")
        size = types[1].size("c")
        if isinstance(size, int) and size > WIDEST_STEP:
            return refused(f"heads are wider than {WIDEST_STEP}")
        return Served({})


class SelectiveScan(Kernel):
    """Channels side by side, positions one after another."""

    op: ClassVar[str] = "selective_scan"
    helper: ClassVar[str] = "selective_scan"
    does: ClassVar[str] = "one pass along time, the states in registers"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        u, a = types[0], types[2]
        size = a.size(Scan.states(u, a))
        if isinstance(size, int) and size > STATES:
            return refused(f"a channel has more than {STATES} states")
        return Served({})
