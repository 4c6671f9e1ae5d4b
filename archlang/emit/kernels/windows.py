"""Attention inside the cells of a partition: windows, grids, stripes, axes."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Features, Kernel, Served, refused
from archlang.primitive import Primitive
from archlang.primitives.attention import Attend
from archlang.primitives.attention_code import SEGMENTS, form, layout
from archlang.primitives.domain import cells_of
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
        cells, kept = cells_of(domain), mask is not None or segments is not None
        if cells is None or is_local(domain) or not op.is_cut(parts, bias.names if bias is not None else (), kept):
            return refused("")
        if any(x is not None for x in mixes):
            return refused("the kernel has no heads that mix, and the keys of the map alone")
        if op.drop:
            return refused("the kernel drops no weights")
        of_keys = mask is not None and form(mask.names, parts) == "key"  # other masks are written as a bias
        by_place = [x for x in (mask if of_keys else None, segments) if x is not None]
        if any(axis.name in x for x in by_place for axis in parts.heads):
            return refused("the mask of keys or the documents differ from head to head")
        if any(is_wide(x.size("c")) for x in (q, v)):
            return refused(f"heads are wider than {WIDEST}")
        flags = {
            "shift": any(cells.moved(axis) for axis in parts.keys),
            "bias": bias is not None or (mask is not None and not of_keys) or len(list(domain.parts())) > 1,
            "mask": of_keys,
            "segments": segments is not None,
            "cap": op.cap is not None,
            "sink": op.sink is not None or sink is not None,
            "scores": not isinstance(op.score, Softmax),
        }
        return Served({"rank": len(parts.keys), **flags})


def is_wide(size: Size) -> bool:
    """Whether no tile holds a head."""
    return isinstance(size, int) and size > WIDEST
