"""U-Net over images (Ronneberger et al., MICCAI 2015) and over volumes (Cicek et al., MICCAI 2016), from the same
blocks.
"""

import torch
import torch.nn.functional as F
from torch import nn


class DoubleConv(nn.Module):
    def __init__(self, in_dim: int, dim: int, between: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_dim, between, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm3d(between)
        self.conv2 = nn.Conv3d(between, dim, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm3d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class UnetDown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = DoubleConv(4, dim=8, between=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.max_pool3d(x, 2))


class Down(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unet_down = UnetDown()

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.unet_down(y)


class UnetUp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(8, 8, 2, stride=2)
        self.conv = DoubleConv(12, dim=4, between=4)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat((skip, self.up(x)), 1))


class Up(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unet_up = UnetUp()

    def forward(self, y: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.unet_up(y, skip)


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = DoubleConv(3, dim=4, between=2)
        self.down = nn.ModuleList([Down()])
        self.up = nn.ModuleList([Up()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        y2 = y
        for down in self.down:
            y2 = down(y2)
        for up in self.up:
            y2 = up(y2, y)
        return y2


class Unet3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unet = Unet()
        self.head = nn.Conv3d(4, 3, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        if volume.ndim != 5 or volume.shape[1] != 3:
            raise ValueError(f"volume must be [b, c = 3, d, h, w], and is {list(volume.shape)}")
        _, _, d, h, w = volume.shape
        if d % 2 != 0:
            raise ValueError(f"d must be a multiple of 2, and d = {d}")
        if h % 2 != 0:
            raise ValueError(f"h must be a multiple of 2, and h = {h}")
        if w % 2 != 0:
            raise ValueError(f"w must be a multiple of 2, and w = {w}")
        return self.head(self.unet(volume))
