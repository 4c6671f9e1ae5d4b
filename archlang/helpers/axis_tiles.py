"""An axis cut into tiles of queries and the keys near them."""

import torch
from torch import Tensor


class AxisTiles:
    """An axis in tiles of `tile` queries that are `step` apart, each beside `width` keys: those from `lead` steps
    before its first query on, or without a lead from the first that one sees. `span` holds the first and the
    last key of every position. The tiles of a residue class make a line of so many.

    queries: [tiles, tile]; keys: [tiles, width]; seen: [tiles, tile, width]; home: the tile of every position and its
    place there, [size] each.
    """

    def __init__(
        self, span: tuple[Tensor, Tensor], tile: int, width: int, step: int = 1, lead: int | None = None
    ) -> None:
        first, last = span
        self.size, self.tile, self.width, self.step, self.lead = first.shape[0], tile, width, step, lead or 0
        line = -(-self.size // (tile * step))
        if type(line) is not int:  # else an exported program serves one tile, or several
            line = torch.sym_max(line, 2)
        self.line = line
        block = torch.arange(line * step, device=first.device)[:, None]
        i = (block % line * tile + torch.arange(tile, device=first.device)) * step + block // line
        start = i[:, :1]
        self.queries = torch.where(i < self.size, i, i - step * ((i - self.size) // step + 1))
        first, last = first[self.queries], last[self.queries]
        before = (start - first.amin(1, keepdim=True)) // step if lead is None else lead
        keys = start - step * before + step * torch.arange(width, device=first.device)
        self.seen = (keys[:, None] >= first[..., None]) & (keys[:, None] <= last[..., None])
        self.keys = keys.clamp(0, self.size - 1)
        i = torch.arange(self.size, device=first.device)
        self.home = i % step * line + i // (tile * step), i // step % tile
