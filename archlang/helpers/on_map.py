"""Places on a flattened map."""

from collections.abc import Sequence

from torch import Tensor


def on_map(places: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """[tile, place] of a map of `sizes`, the last axis the fastest, from the [tile, place] along each of its axes."""
    index = places[0]
    for own, size in zip(places[1:], sizes[1:], strict=True):
        index = (index[:, None, :, None] * size + own[:, None]).flatten(0, 1).flatten(1)
    return index
