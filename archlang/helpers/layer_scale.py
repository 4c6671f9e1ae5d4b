import torch
from torch import nn


class LayerScale(nn.Module):
    """y = gamma x over the last axes."""

    def __init__(self, *shape: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma
