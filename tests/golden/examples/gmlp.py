"""gMLP: Pay Attention to MLPs (Liu et al., NeurIPS 2021)."""

import torch
import torch.nn.functional as F
from torch import nn


class Patchify(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2)


class SpatialGating(nn.Module):
    """u * (W norm(v) + b) for the halves u, v of the channels, W along the tokens; it starts close to u
    (Liu et al., gMLP, NeurIPS 2021).
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.proj = nn.Linear(16, 16)
        self.proj.weight = nn.Parameter(torch.randn(16, 16) * 1e-6)
        self.proj.bias = nn.Parameter(torch.ones(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, v = x.chunk(2, -1)
        return u * self.proj(self.norm(v).transpose(1, 2)).transpose(1, 2)


class GmlpLayer(nn.Module):
    """An MLP that is gated along the tokens (Liu et al., NeurIPS 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.fc1 = nn.Linear(8, 16)
        self.gate = SpatialGating()
        self.fc2 = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(self.gate(F.gelu(self.fc1(self.norm(x)))))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gmlp_layer = GmlpLayer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gmlp_layer(x)


class Gmlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = Patchify()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.stem(image).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))
