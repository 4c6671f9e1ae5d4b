"""A bias for every offset from a query to a key, in tiles of a map."""

from torch import Tensor


def offset_bias(table: Tensor, offsets: Tensor) -> Tensor:
    """bias[tile, batch, head, i, j] = table[batch, head, *offset], by the row of each offset [tile, i, j]."""
    rows = table.flatten(2).movedim(2, 0).contiguous()  # side by side, or to select them is slow
    bias: Tensor = rows.index_select(0, offsets.flatten()).unflatten(0, offsets.shape)
    return bias.permute(0, 3, 4, 1, 2)
