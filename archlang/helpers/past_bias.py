"""A bias by how far back a key is."""

import torch
from torch import Tensor


def past_bias(table: Tensor, queries: int, keys: int, step: int = 1) -> Tensor:
    """bias[.., query, key] = table[.., offset] for queries that end at the same position as the keys: the offset from a
    query to a key counts in steps, and 0 is in the middle. What is further back than the table reaches has its end.
    """
    place = torch.arange(queries, device=table.device)[:, None]
    back = (place + (keys - queries) - torch.arange(keys, device=table.device)) // step
    middle = table.shape[-1] // 2
    return table[..., (middle - back).clamp(0, 2 * middle)]
