import torch
from torch import Tensor


def sorted_rows(x: Tensor, index: Tensor, experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """A row of x [..., *rest] for every choice in index [..., k], sorted by the expert that is chosen; where the rows
    of each expert end; the place of each row among all choices. An index of `experts` is for nobody and comes last.
    """
    choices = index.flatten()
    order = choices.argsort(stable=True)
    counts = choices.new_zeros(experts + 1).scatter_add(0, choices, torch.ones_like(choices))
    rows = x.flatten(0, index.ndim - 2)[order // index.shape[-1]]
    return rows, counts[:experts].cumsum(0), order
