"""What holds along each axis of a map, over the map."""

from collections.abc import Callable, Sequence
from functools import reduce

from torch import Tensor


def over_tiles(parts: Sequence[Tensor], join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """[tiles, query, key] of each axis joined to that of all axes, in the order of `on_map`."""

    def both(a: Tensor, b: Tensor) -> Tensor:
        joined = join(a[:, :, None, :, None], b[:, None, None, :, None, :])
        return joined.flatten(0, 1).flatten(1, 2).flatten(2)

    return reduce(both, parts)
