"""A learned bias for every offset from a query to a key near it."""

from collections.abc import Sequence

import torch
from torch import nn


class OffsetTable(nn.Module):
    """weight[head, *offset of the key], the offset 0 in the middle."""

    def __init__(self, heads: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, *sizes), std=0.02))
