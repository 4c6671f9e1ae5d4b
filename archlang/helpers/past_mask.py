"""Which positions of the past a query sees."""

import torch
from torch import Tensor


def past_mask(
    queries: int,
    keys: int,
    device: torch.device,
    reach: int | None = None,
    step: int = 1,
    chunk: int | None = None,
    past: int = 0,
) -> Tensor:
    """bool [query, key] for queries that end at the same position as the keys: keys no later than the query, nearer
    than `reach`, `step` apart, or in its own block of `chunk` positions, where `past` came before the queries.
    """
    place = torch.arange(queries, device=device)[:, None]
    back = place + (keys - queries) - torch.arange(keys, device=device)
    seen = back >= 0
    if reach is not None:
        seen = seen & (back < reach)
    if step > 1:
        seen = seen & (back % step == 0)
    return seen if chunk is None else seen & (back <= (place + past) % chunk)
