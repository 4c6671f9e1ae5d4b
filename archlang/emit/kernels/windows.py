"""Attention inside the cells of a partition: windows, grids, stripes, axes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served, refused
from archlang.primitive import Primitive
from archlang.primitives.attention import Attend
from archlang.primitives.attention_code import EXTRA, SEGMENTS, form, layout
from archlang.primitives.attention_dense import is_long
from archlang.primitives.domain import Cells, cells_of, is_whole
from archlang.primitives.near import is_local
from archlang.sizes import Size

WIDEST = 128  # of a head, that a tile holds


class WindowAttention(Kernel):
    """Windows by arithmetic on addresses."""

    op: ClassVar[str] = "attend"
    helper: ClassVar[str] = "window_attention"
    does: ClassVar[str] = "windows by address, without copies"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        assert isinstance(op, Attend)
        given: list[Any] = [*types, *[None] * (SEGMENTS + 1 - len(types))]
        q, k, v, bias, mask = given[:5]
        parts = layout(op.on, q, k, v)
        domain = op.domain(parts)
        cells = cells_of(domain)
        if is_local(domain):
            return refused("")
        if cells is None or (is_whole(domain, parts.keys) and (mask is not None or is_long(parts.keys))):
            return refused("")
        if not isinstance(domain, Cells):
            return refused(f"`{domain}` forbids pairs inside a cell")
        if op.is_scored(given[3:]) or given[EXTRA] is not None:
            return refused("the kernel has plain softmax, over the map alone")
        if given[SEGMENTS] is not None:
            return refused("the kernel knows no documents")
        if op.drop:
            return refused("the kernel drops no weights")
        if bias is not None and (any(axis.name in bias for axis in parts.batch) or form(bias.names, parts) != "cell"):
            return refused("the bias differs from sample to sample, or from window to window")
        if mask is not None and form(mask.names, parts) != "key":
            return refused("the mask is one of pairs")
        if any(is_wide(x.size("c")) for x in (q, v)):
            return refused(f"heads are wider than {WIDEST}")
        moved = any(cells.moved(axis) for axis in parts.keys)
        return Served({"rank": len(parts.keys), "shift": moved, "bias": bias is not None, "mask": mask is not None})

    def joined(self, features: Sequence[Features]) -> Features:
        ranks = {each["rank"] for each in features}
        flags = {name: any(each[name] for each in features) for name in features[0] if name != "rank"}
        return {**flags, "rank": max(ranks), "mixed": len(ranks) > 1}


def is_wide(size: Size) -> bool:
    """Whether no tile holds a head."""
    return isinstance(size, int) and size > WIDEST
