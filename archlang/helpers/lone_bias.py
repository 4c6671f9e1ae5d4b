"""A bias on its own, beside a weight that is computed."""

import torch
from torch import nn


class LoneBias(nn.Module):
    """The bias of a layer; starts at 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))
