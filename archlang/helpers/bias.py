"""A bias on its own, beside a weight that is computed."""

import torch
from torch import nn


class Bias(nn.Module):
    """x + bias over the last axis; starts at 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bias
