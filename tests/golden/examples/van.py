"""VAN: Visual Attention Network (Guo et al., CVMJ 2023)."""

import torch
import torch.nn.functional as F
from torch import nn


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if not training or rate == 0:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    kept = torch.rand(shape, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1 - rate))


class LayerScale(nn.Module):
    """y = gamma x over the last axes."""

    def __init__(self, *shape: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class LargeKernelAttention(nn.Module):
    """y = x * conv1(conv_spatial(conv0(x))): a local filter, one of `wide` taps `dilation` apart and a 1x1 one
    stand for a kernel of 21 (Guo et al., Visual Attention Network, CVMJ 2023).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, dilation=3, groups=dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(self.conv_spatial(self.conv0(x)))
        return x * y


class LargeKernelMixer(nn.Module):
    """Large-kernel attention between two projections, with a shortcut, as in VAN."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.spatial_gating_unit = LargeKernelAttention(dim)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.spatial_gating_unit(F.gelu(self.proj_1(x)))
        return x + self.proj_2(y)


class ConvMlp(nn.Module):
    """An MLP with a depthwise convolution on its hidden layer (Wang et al., PVT v2, CVMJ 2022)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, 2 * dim, 1)
        self.dwconv = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.fc2 = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.gelu(self.dwconv(self.fc1(x)))
        return self.fc2(y)


class Block(nn.Module):
    def __init__(self, dim: int, stochastic_depth: float) -> None:
        super().__init__()
        self.stochastic_depth = stochastic_depth
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = LargeKernelMixer(dim)
        self.scale1 = LayerScale(dim, init=0.01)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = ConvMlp(dim)
        self.scale2 = LayerScale(dim, init=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + drop_path(
            self.attn(self.norm1(x)) * self.scale1.gamma[:, None, None], self.stochastic_depth, self.training
        )
        return x + drop_path(
            self.mlp(self.norm2(x)) * self.scale2.gamma[:, None, None], self.stochastic_depth, self.training
        )


class Stage(nn.Module):
    def __init__(
        self, in_dim: int, dim: int, proj2: int, proj3: int, proj4: int, stochastic_depths: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, proj2, stride=proj3, padding=proj4)
        self.proj_norm = nn.BatchNorm2d(dim)
        self.blocks = nn.ModuleList(
            Block(dim, stochastic_depth=stochastic_depth) for stochastic_depth in stochastic_depths
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.proj_norm(self.proj(x))
        for block in self.blocks:
            x = block(x)
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Van(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            Stage(in_dim, dim=dim, proj2=proj2, proj3=proj3, proj4=proj4, stochastic_depths=stochastic_depths)
            for in_dim, dim, proj2, proj3, proj4, stochastic_depths in zip(
                (3, 6), (6, 8), (7, 3), (4, 2), (3, 1), ((0.0,), (0.05, 0.1))
            )
        )
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        for stage in self.stages:
            image = stage(image)
        return self.head(image.mean((2, 3)))
