"""MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., CVPR 2018)."""

import torch
import torch.nn.functional as F
from torch import nn


class ConvBn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 48, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(self.bn(self.conv(x)))


class ConvBn2(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project without an activation (Sandler et al., MobileNetV2, CVPR 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(48, 48, 3, padding=1, groups=48, bias=False)
        self.norm = nn.BatchNorm2d(48)
        self.project = ConvBn2(48, dim=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(F.relu6(self.norm(self.depthwise(x))))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inverted_residual = InvertedResidual()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inverted_residual(x)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class ConvBn3(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(self.bn(self.conv(x)))


class InvertedResidual2(nn.Module):
    """Expand, filter each channel, project without an activation (Sandler et al., MobileNetV2, CVPR 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = ConvBn3(8, dim=48)
        self.depthwise = nn.Conv2d(48, 48, 3, stride=2, padding=1, groups=48, bias=False)
        self.norm = nn.BatchNorm2d(48)
        self.project = ConvBn2(48, dim=24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(x)
        return self.project(F.relu6(self.norm(self.depthwise(y))))


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inverted_residual = InvertedResidual2()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inverted_residual(x)


class InvertedResidual3(nn.Module):
    """Expand, filter each channel, project without an activation (Sandler et al., MobileNetV2, CVPR 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = ConvBn3(24, dim=144)
        self.depthwise = nn.Conv2d(144, 144, 3, padding=1, groups=144, bias=False)
        self.norm = nn.BatchNorm2d(144)
        self.project = ConvBn2(144, dim=24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(x)
        y = self.project(F.relu6(self.norm(self.depthwise(y))))
        return x + y


class Block3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inverted_residual = InvertedResidual3()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inverted_residual(x)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block2(), Block3()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class MobilenetV2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBn()
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.last = ConvBn3(24, dim=1792)
        self.classifier = nn.Linear(1792, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 16, 16):
            raise ValueError(f"image must be [b, c = 3, h = 16, w = 16], and is {list(image.shape)}")
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
        x = self.last(x)
        return self.classifier(F.dropout(x.mean((2, 3)), 0.2, self.training))
