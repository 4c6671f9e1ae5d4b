"""Attention of one query to many keys, as in decoding."""

from collections.abc import Sequence
from typing import Any, ClassVar

from archlang.emit.kernels.kernel import Served, refused
from archlang.emit.kernels.windows import OfAttention
from archlang.primitive import Primitive
from archlang.primitives.attention import Attend
from archlang.primitives.attention_code import SEGMENTS, layout
from archlang.primitives.attention_dense import rows_of
from archlang.primitives.score import Softmax
from archlang.sizes import product

WIDEST_DECODED = 256  # channels of a head that a tile of one query holds


class DecodeAttention(OfAttention):
    """Parts of the keys side by side, as many as keep a GPU busy."""

    helper: ClassVar[str] = "decode_attention"
    does: ClassVar[str] = "parts of the keys side by side, a tile for all queries that share them"

    def serves(self, op: Primitive, types: Sequence[Any]) -> Served:
        assert isinstance(op, Attend)
        given: list[Any] = [*types, *[None] * (SEGMENTS + 1 - len(types))]
        q, k, v, bias, mask, _, sink, *mixes, segments = given
        parts = layout(op.on, q, k, v)
        alike = [(axis.name, axis.size) for axis in parts.queries] == [(axis.name, axis.size) for axis in parts.keys]
        if alike or product(axis.size for axis in rows_of(parts, everything=True)) != 1 or segments is not None:
            return refused("")
        if any(op.domain(parts).restricts(parts.keys, axis) for axis in parts.keys):
            return refused("")
        features = {
            "bias": bias is not None,
            "mask": mask is not None,
            "cap": op.cap is not None,
            "sink": op.sink is not None or sink is not None,
            "scores": not isinstance(op.score, Softmax),
        }
        if not any(features.values()):
            return refused("")
        if any(x is not None for x in mixes) or op.drop:
            return refused("the kernel has no heads that mix, drops no weights, and has the keys of the map alone")
        if any(isinstance(size, int) and size > WIDEST_DECODED for size in (q.size("c"), v.size("c"))):
            return refused(f"heads are wider than {WIDEST_DECODED}")
        return Served({"rank": 1, **features})
