"""Attention inside the cells of a partition: windows, grids, stripes, axes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served, refused
from archlang.primitive import Primitive
from archlang.primitives.attention import Attend
from archlang.primitives.attention_code import SEGMENTS, form, layout
from archlang.primitives.attention_dense import is_long
from archlang.primitives.domain import Cells, cells_of, is_whole
from archlang.primitives.near import is_local
from archlang.primitives.score import Softmax
from archlang.sizes import Size

WIDEST = 128  # of a head, that a tile holds


class OfAttention(Kernel):
    """What weighs values by the logits of keys."""

    op: ClassVar[str] = "attend"
    stands_on: ClassVar[str] = "scores"

    def joined(self, features: Sequence[Features]) -> Features:
        ranks = {each["rank"] for each in features}
        names = sorted({name for each in features for name in each} - {"rank"})
        flags = {name: any(each.get(name) for each in features) for name in names}
        return {**flags, "rank": max(ranks), "mixed": len(ranks) > 1}


class WindowAttention(OfAttention):
    """Windows by arithmetic on addresses."""

    helper: ClassVar[str] = "window_attention"
    does: ClassVar[str] = "windows by address, without copies"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        assert isinstance(op, Attend)
        given: list[Any] = [*types, *[None] * (SEGMENTS + 1 - len(types))]
        q, k, v, bias, mask, _, sink, *mixes, segments = given
        parts = layout(op.on, q, k, v)
        domain = op.domain(parts)
        cells = cells_of(domain)
        if is_local(domain):
            return refused("")
        if cells is None or (is_whole(domain, parts.keys) and (mask is not None or is_long(parts.keys))):
            return refused("")
        if not isinstance(domain, Cells):
            return refused(f"`{domain}` forbids pairs inside a cell")
        if op.sink is not None or sink is not None or any(x is not None for x in mixes):
            return refused("the kernel has no sink, no heads that mix, and the keys of the map alone")
        if segments is not None:
            return refused("the kernel knows no documents")
        if op.drop:
            return refused("the kernel drops no weights")
        if bias is not None and (any(axis.name in bias for axis in parts.batch) or form(bias.names, parts) != "cell"):
            return refused("the bias differs from sample to sample, or from window to window")
        if mask is not None and form(mask.names, parts) != "key":
            return refused("the mask is one of pairs")
        if any(is_wide(x.size("c")) for x in (q, v)):
            return refused(f"heads are wider than {WIDEST}")
        flags = {
            "shift": any(cells.moved(axis) for axis in parts.keys),
            "bias": bias is not None,
            "mask": mask is not None,
            "cap": op.cap is not None,
            "scores": not isinstance(op.score, Softmax),
        }
        return Served({"rank": len(parts.keys), **flags})


def is_wide(size: Size) -> bool:
    """Whether no tile holds a head."""
    return isinstance(size, int) and size > WIDEST
