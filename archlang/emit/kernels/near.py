"""Attention to what is near, and scores of all keys that torch has no fused kernel for."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Served, refused
from archlang.emit.kernels.windows import WIDEST, OfAttention, is_wide
from archlang.primitive import Primitive
from archlang.primitives.attention import Attend
from archlang.primitives.attention_code import SEGMENTS, Layout, form, layout
from archlang.primitives.domain import Cells
from archlang.primitives.near import bounds, is_local
from archlang.primitives.score import Softmax


class NearAttention(OfAttention):
    """Tiles of queries walk the keys near them."""

    helper: ClassVar[str] = "near_attention"
    does: ClassVar[str] = "tiles of queries walk the keys that they see, without copies"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        assert isinstance(op, Attend)
        given: list[Any] = [*types, *[None] * (SEGMENTS + 1 - len(types))]
        q, k, v, bias, mask, _, sink, *mixes, segments = given
        parts = layout(op.on, q, k, v)
        domain = op.domain(parts)
        other = not isinstance(op.score, Softmax)
        bent = other or op.cap is not None or op.sink is not None or sink is not None or segments is not None
        if not is_local(domain) and any(isinstance(part, Cells) for part in domain.parts()):
            return refused("")
        if any(x is not None for x in mixes):
            return refused("the kernel has no heads that mix, and the keys of the map alone")
        if not is_local(domain) and not bent:
            return refused("softmax over all keys has a fused kernel in torch")
        if op.drop:
            return refused("the kernel drops no weights")
        if [(axis.name, axis.size) for axis in parts.queries] != [(axis.name, axis.size) for axis in parts.keys]:
            return refused("queries and keys lie on different maps")
        if reason := _unlike(parts, bias, mask, segments):
            return refused(reason)
        found = [bounds(domain, parts.keys, axis) for axis in parts.keys]
        if None in found:
            return refused(f"`{domain}` bounds an axis twice in one way")
        if any(is_wide(x.size("c")) for x in (q, v)):
            return refused(f"heads are wider than {WIDEST}")
        named = {name for own in found if own is not None for name in own}
        flags = {
            "band": bool(named & {"before", "after"}),
            "chunk": "chunk" in named,
            "nearest": "nearest" in named,
            "radius": len(parts.keys) > 1 and domain.disc() is not None,
            "table": bias is not None,
            "mask": mask is not None,
            "segments": segments is not None,
            "cap": op.cap is not None,
            "sink": op.sink is not None or sink is not None,
            "scores": other,
        }
        return Served({"rank": len(parts.keys), **flags})


def _unlike(parts: Layout, bias: Any, mask: Any, segments: Any) -> str:
    """What the kernel does not take of a bias, a mask or documents."""
    if len(parts.keys) > 3:
        return "the map has more than three axes"
    if bias is not None and (form(bias.names, parts) != "offset" or any(axis.name in bias for axis in parts.batch)):
        return "the bias is one of pairs, or differs from sample to sample"
    if mask is not None and (form(mask.names, parts) != "key" or any(axis.name in mask for axis in parts.heads)):
        return "the mask is one of pairs, or differs from head to head"
    if segments is not None and any(axis.name in segments for axis in parts.heads):
        return "documents differ from head to head"
    return ""
