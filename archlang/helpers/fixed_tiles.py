"""The tiles of a map whose size is known."""

from collections.abc import Sequence

from torch import Tensor, nn

from archlang.helpers.axis_tiles import AxisTiles
from archlang.helpers.map_tiles import MapTiles


class FixedTiles(nn.Module):
    """`MapTiles`, made once and held: they move with the module, and are no part of its state_dict."""

    queries: Tensor
    strips: Tensor
    home: Tensor
    seen: Tensor
    offsets: Tensor | None

    def __init__(self, near: Sequence[AxisTiles], radius: int | None = None, table: Sequence[int] = ()) -> None:
        super().__init__()
        made = MapTiles(near, radius, table)
        self.width, self.move = made.width, made.move
        for name in ("queries", "strips", "home", "seen", "offsets"):
            self.register_buffer(name, getattr(made, name), persistent=False)
