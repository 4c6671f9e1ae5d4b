"""Competition between channels by their strength over a whole map."""

import torch
from torch import nn


class GlobalResponseNorm(nn.Module):
    """y = x + weight * x * g / (mean of g + eps) + bias for x [.., *axes, c], g[c] the length of x over the axes."""

    def __init__(self, dim: int, eps: float = 1e-6, axes: int = 2) -> None:
        super().__init__()
        self.eps = eps
        self.axes = tuple(range(-1 - axes, -1))
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = torch.linalg.vector_norm(x, dim=self.axes, keepdim=True)
        response = length / (length.mean(-1, keepdim=True) + self.eps)
        y: torch.Tensor = x + self.weight * (x * response) + self.bias
        return y
