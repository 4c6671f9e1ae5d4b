"""Rows of a table that has one for every offset between two places of a window."""

from collections.abc import Sequence

import torch
from torch import Tensor


def offset_index(queries: Sequence[int], keys: Sequence[int]) -> Tensor:
    """index[i, j]: the row of the offset from place j to place i, the first axis the slowest. A map of fewer places
    lies on the other in equal steps.
    """
    index = torch.zeros(1, 1, dtype=torch.long)
    for query, key in zip(queries, keys, strict=True):
        size = max(query, key)
        offset = torch.arange(query)[:, None] * (size // query) - torch.arange(key) * (size // key) + size - 1
        index = index[:, None, :, None] * (2 * size - 1) + offset[:, None]
        index = index.flatten(0, 1).flatten(1)
    return index
