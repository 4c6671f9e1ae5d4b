"""U-Net over images (Ronneberger et al., MICCAI 2015) and over volumes (Cicek et al., MICCAI 2016), from the same
blocks.
"""

import torch
import torch.nn.functional as F
from torch import nn


class DoubleConv(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_dim, dim, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class UnetDown(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = DoubleConv(in_dim, dim=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.max_pool2d(x, 2))


class Down(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.unet_down = UnetDown(dim, dim=2 * dim)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.unet_down(y)


class UnetUp(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_dim, dim, 2, stride=2)
        self.conv = DoubleConv(in_dim, dim=dim)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat((skip, self.up(x)), 1))


class Up(nn.Module):
    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.unet_up = UnetUp(dim, dim=width)

    def forward(self, y: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.unet_up(y, skip)


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = DoubleConv(1, dim=4)
        self.down = nn.ModuleList(Down(dim) for dim in (4, 8))
        self.up = nn.ModuleList(Up(dim, width=width) for dim, width in zip((16, 8), (8, 4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        y2 = y
        ys = []
        for down in self.down:
            y2 = down(y2)
            ys.append(y2)
        for up, skip in zip(self.up, [ys[0], y]):
            y2 = up(y2, skip)
        return y2


class Unet2d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unet = Unet()
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1] != 1:
            raise ValueError(f"image must be [b, c = 1, h, w], and is {list(image.shape)}")
        _, _, h, w = image.shape
        if h % 4 != 0:
            raise ValueError(f"h must be a multiple of 4, and h = {h}")
        if w % 4 != 0:
            raise ValueError(f"w must be a multiple of 4, and w = {w}")
        return self.head(self.unet(image))
