"""What attention holds in memory: copies, and the products of queries and keys where no fused kernel avoids them."""

from collections.abc import Sequence
from typing import Any

from archlang.memory import Memory
from archlang.primitives.attention_code import SEGMENTS, Layout, extra_axes, form, is_concrete, layout
from archlang.primitives.attention_dense import is_short, rows_of
from archlang.primitives.domain import cells_of, extents
from archlang.primitives.near import is_local, tiling
from archlang.primitives.score import Softmax
from archlang.shapes import TensorType
from archlang.sizes import Size, divide, product, total

EXACT = 4  # bytes of what a fused kernel keeps of each query


def memory(op: Any, scored: bool, *types: TensorType | None) -> Memory:
    """Of an application of attention."""
    q, k, v, bias, mask = types[:5]
    assert q is not None
    assert k is not None
    assert v is not None
    mask = types[SEGMENTS] if mask is None else mask
    parts = layout(op.on, q, k, v)
    domain = op.domain(parts)
    given = _Given(op, parts, scored, q, k, v, bias, mask, types[9])
    if is_local(domain):
        return given.near()
    if op.is_cut(parts, bias.names if bias is not None else (), mask is not None):
        return given.cells()
    return given.dense()


class _Given:
    """An application with the bytes of its operands."""

    def __init__(self, op: Any, parts: Layout, scored: bool, *types: Any) -> None:
        self.op, self.parts, self.scored = op, parts, scored
        q, k, v, self.bias, self.mask, self.extra = types
        self.q, self.k, self.v = q.bytes, k.bytes, v.bytes
        restricted = any(op.domain(parts).restricts(parts.keys, axis) for axis in parts.keys)
        rows = rows_of(parts, not (self.bias or self.mask or restricted))
        self.flat = len(rows) > 1  # into one axis of queries, which copies them
        self.broadcast = any(axis.name not in x for axis in parts.batch if axis not in rows for x in (q, k, v))
        self.channels = k.size("c"), v.size("c")  # of keys and values
        self.uneven = q.size("c") != v.size("c")  # heads that no fused kernel takes on a CPU
        self.one = q.without(*q.names).bytes
        self.out = divide(q.bytes, q.size("c")) * v.size("c")
        self.rows, self.keys = (product(axis.size for axis in axes) for axes in (parts.queries, parts.keys))
        self.lead = product(axis.size for axis in (*parts.lead, *parts.extra))
        free = {axis.name for axis in parts.heads} | {"c"}
        self.order = (*(n for n in q.names if n not in free), *(axis.name for axis in parts.heads), "c")

    @property
    def copies(self) -> Size:
        return total((self.q, self.k, self.v))

    def pairs(self, rows: Size, keys: Size) -> Size:
        """A number for every query and key."""
        if self.extra is not None:
            keys = keys + product(axis.size for axis in extra_axes(self.parts, self.extra))
        return product((self.lead, rows, keys, self.one))

    def written(self, pairs: Size) -> Size:
        """What the backward pass reads of the products: the weights, and what they were made from."""
        kinds = 1 + int(self.scored and isinstance(self.op.score, Softmax)) + int(self.op.cap is not None)
        return pairs * int(kinds + (2 if self.op.drop else 0))

    def dense(self) -> Memory:
        """All keys beside every query. A fused kernel, where none of its arguments is learned, reads q, k, v and the
        result again, and one number of each query.
        """
        pairs, copied = self.pairs(self.rows, self.keys), 0 if self.extra is None else self.k + self.v
        restricted = any(self.op.domain(self.parts).restricts(self.parts.keys, axis) for axis in self.parts.keys)
        plain = self.mask is None and (not restricted or self.is_causal()) and self.bias is None
        each = self.lead * self.rows * EXACT + copied + (0 if plain else divide(pairs, self.lead) + self.within())
        if self.scored:
            return Memory({}, False, self.copies + self.written(pairs), pairs * 3 + self.q, pairs * 4 + self.copies)
        if self.broadcast:  # which the fused kernel does not: written out by torch, with scaled queries and keys
            queries, seen = self.spread(self.rows, self.channels[0]), self.spread(self.keys, self.channels[0])
            whole = queries + seen + self.spread(self.keys, self.channels[1])
            work = self.q + self.k + queries + seen + pairs
            return Memory({}, False, whole + self.written(pairs), work, pairs * 2)
        if self.uneven:  # written out by torch, with scaled queries and keys
            work = self.q * (2 if self.flat else 1) + self.k + pairs * 2
            return Memory({}, False, self.copies + self.written(pairs), work, pairs * 2)
        if self.bias is not None or self.op.drop:
            short = self.mask is None and not restricted and is_short(self.op.core, self.parts.keys, biased=True)
            work = self.copies + pairs * 2 if short else each
            return Memory({}, False, self.copies + self.written(pairs), work, pairs * 2 + self.copies)
        return Memory(dict.fromkeys(("q", "k", "v"), ""), True, each, back=self.q, order=self.order)

    def within(self) -> Size:
        """Which keys are of the document of each query."""
        return self.mask.numel * self.rows if self.mask is not None and self.mask.dtype == "segments" else 0

    def spread(self, places: Size, channels: Size) -> Size:
        """q, k or v with all axes."""
        return product((self.lead, self.one, places, channels))

    def is_causal(self) -> bool:
        parts, keys = self.op.domain(self.parts).parts(), self.parts.keys
        return len(keys) == 1 and all(part.is_causal(keys, keys[0]) for part in parts)

    def cells(self) -> Memory:
        """q, k and v are copied into cells, and the result out of them."""
        domain = self.op.domain(self.parts)
        sizes = extents(domain, self.parts.keys)
        cells, pairs = cells_of(domain), self.pairs(self.rows, product(sizes))
        assert cells is not None
        moved = self.q if any(cells.moved(axis) for axis in self.parts.keys) else 0
        kernel = not self.scored and (_is_long(sizes) if self.op.core is None else self.op.core == "fused")
        work = self.copies + (self.out if kernel else pairs * 2) + moved
        if kernel and self.bias is None and not self.op.drop:
            kept = self.copies + self.out + self.lead * self.rows * EXACT
            return Memory({}, False, kept, kept + moved, self.copies + self.out, order=self.order)
        kept = self.copies + self.written(pairs)
        return Memory({}, False, kept, work, self.out + pairs * 2, order=self.order)

    def near(self) -> Memory:
        """Tiles of queries, strips of keys of which each takes a window, and what it sees of them."""
        domain, keys = self.op.domain(self.parts), self.parts.keys
        cuts = [tiling(domain, keys, axis) for axis in keys]
        rows = product(cut.padded(axis.size) for axis, cut in zip(keys, cuts, strict=True))
        width, tile = product(cut.width for cut in cuts), product(cut.tile for cut in cuts)
        queries, out = (divide(x * rows, self.keys) for x in (self.q, self.out))
        strips = divide((self.k + self.v) * width * cuts[0].tile, tile * cuts[0].width * self.keys)
        beside = strips * (rows + cuts[0].width - cuts[0].tile)
        pairs, seen = self.pairs(rows, width), rows * width
        index, mask = (rows + divide(seen, tile) + self.keys) * 8, seen
        constant: Size = 0
        if self.is_fixed():
            constant = index + mask + (seen * 8 if self.bias is not None else 0)
            index = mask = 0
        kept = queries + beside + index
        each = self.lead * rows * EXACT + seen * self.one + out
        if self.scored:
            kept, work, back = kept + mask + self.written(pairs), kept + pairs * 2 + out, pairs * 4 + beside
        elif self.bias is not None or self.op.drop:
            bias = seen * self.one * product(axis.size for axis in self.parts.heads)
            tiles = queries + divide((self.k + self.v) * width * rows, tile * self.keys)  # with tiles and batch as one
            kept, work, back = kept + mask + self.written(pairs), kept + each + bias + pairs + tiles, pairs * 2 + beside
        else:
            kept, work, back = kept + each, kept + each + seen, queries + beside + out
        return Memory({}, False, kept, work, back, constant=constant)

    def is_fixed(self) -> bool:
        """Whether the module holds the tiles."""
        offsets = self.bias is None or form(self.bias.names, self.parts) == "offset"
        return is_concrete(self.parts.keys) and self.mask is None and offsets


def _is_long(sizes: Sequence[Size]) -> bool:
    count = product(sizes)
    return not isinstance(count, int) or count > 64
