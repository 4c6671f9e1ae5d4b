from collections.abc import Sequence

import torch


def combine(parts: Sequence[torch.Tensor], order: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What the experts made of their tokens, from `order` back to the tokens and summed with weight [..., k]."""
    rows, last = torch.cat(list(parts)), weight.ndim - 1
    choices = rows.new_zeros(weight.numel(), *rows.shape[1:]).index_copy(0, order[: rows.shape[0]], rows)
    weight = weight.to(rows.dtype)[(..., *[None] * (rows.ndim - 1))]
    return (choices.view(*weight.shape[: last + 1], *rows.shape[1:]) * weight).sum(last)
