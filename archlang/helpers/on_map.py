"""Places on a flattened map."""

from collections.abc import Sequence

from torch import Tensor


def on_map(places: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """[tile, place] of a map of `sizes` from the [tile, place] along each of its axes: of positions and places the last
    axis is the fastest, of tiles the first.
    """
    index = places[0]
    for own, size in zip(places[1:], sizes[1:], strict=True):
        index = (index[:, :, None] * size + own[:, None, None]).flatten(0, 1).flatten(1)
    return index
