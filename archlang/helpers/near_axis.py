"""What a position of an axis sees."""

from typing import NamedTuple

import torch

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.band_span import band_span
from archlang.helpers.chunk_span import chunk_span
from archlang.helpers.neighbor_span import neighbor_span
from archlang.helpers.span_overlap import span_overlap


class NearAxis(NamedTuple):
    """A position of an axis sees those that are `before` it and `after` it, in its block of `chunk` positions counted
    from `start`, and among the so many `nearest`, all of them `step` apart; what is None bounds nothing. In PyTorch
    `tile` queries stand beside `width` keys, from `lead` steps before them on.
    """

    tile: int
    width: int
    lead: int | None = None
    step: int = 1
    before: int | None = None
    after: int | None = None
    chunk: int | None = None
    start: int = 0
    nearest: int | None = None

    def tiles(self, size: int, device: torch.device) -> AxisTiles:
        """An axis in tiles."""
        before, after = (size - 1 if side is None else side for side in (self.before, self.after))
        spans = [band_span(size, before, after, device)]
        if self.chunk is not None:
            spans.append(chunk_span(size, self.chunk, False, self.start, device))
        if self.nearest is not None:
            spans.append(neighbor_span(size, self.nearest, self.step, device))
        return AxisTiles(span_overlap(*spans), self.tile, self.width, self.step, self.lead)

    def bounds(self, size: int) -> list[int]:
        """step, before and after in steps, chunk, start, count: numbers that bound nothing in place of None."""
        before, after = (size if side is None else side // self.step for side in (self.before, self.after))
        chunk = size if self.chunk is None else self.chunk
        return [self.step, before, after, chunk, self.start % chunk, size if self.nearest is None else self.nearest]

    def most(self, size: int) -> int:
        """The largest offset from a position to one that it sees, in steps."""
        step, before, after, chunk, _, count = self.bounds(size)
        return min(max(before, after), (chunk - 1) // step, count - 1, (size - 1) // step)
