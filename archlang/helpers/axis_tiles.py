"""An axis cut into tiles of queries and the keys near them."""

import torch
from torch import Tensor


class AxisTiles:
    """An axis in tiles of `tile` queries that are `step` apart, each beside the `width` keys from the first that one
    of them sees. `span` holds the first and the last key of every position.

    queries: [tiles, tile]; keys: [tiles, width]; seen: [tiles, tile, width]; home: the tile of every position and its
    place there, [size, 1] each.
    """

    def __init__(self, span: tuple[Tensor, Tensor], tile: int, width: int, step: int = 1) -> None:
        first, last = span
        self.size, self.tile, self.step = first.shape[0], tile, step
        tiles = -(-self.size // (tile * step))
        if type(tiles) is not int:  # else an exported program serves one tile, or several
            tiles = torch.sym_max(tiles, 2)
        block = torch.arange(tiles * step, device=first.device)[:, None]
        i = (block // step * tile + torch.arange(tile, device=first.device)) * step + block % step
        self.queries = torch.where(i < self.size, i, i - step * ((i - self.size) // step + 1))
        first, last = first[self.queries], last[self.queries]
        start = self.queries[:, :1] - (self.queries[:, :1] - first.amin(1, keepdim=True)) // step * step
        keys = start + step * torch.arange(width, device=first.device)
        self.seen = (keys[:, None] >= first[..., None]) & (keys[:, None] <= last[..., None])
        self.keys = keys.clamp(max=self.size - 1)
        i = torch.arange(self.size, device=first.device)[:, None]
        self.home = i // (tile * step) * step + i % step, i // step % tile
