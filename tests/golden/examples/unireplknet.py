"""UniRepLKNet: A Universal Perception Large-Kernel ConvNet (Ding et al., CVPR 2024)."""

import torch
import torch.nn.functional as F
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


class LayerScale(nn.Module):
    """y = gamma x over the last axes."""

    def __init__(self, *shape: int, init: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, init))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class SqueezeExcite(nn.Module):
    """A gate for each channel, from the mean of the map (Hu et al., CVPR 2018)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((1, 2))))))[:, None, None]


class UnirepBlock(nn.Module):
    """Spatial mixing, a gate for each channel, an MLP with a response norm inside."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.BatchNorm2d(8)
        self.se = SqueezeExcite(8, hidden=2)
        self.fc1 = nn.Linear(8, 32)
        self.response = GlobalResponseNorm(32)
        self.fc2 = nn.Linear(32, 8, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.scale = LayerScale(8, init=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.response(F.gelu(self.fc1(self.se(self.norm(self.mixer(x)).permute(0, 2, 3, 1)))))
        y = self.norm2(self.fc2(y).permute(0, 3, 1, 2)) * self.scale.gamma[:, None, None]
        return x + y


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unirep_block = UnirepBlock()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.unirep_block(x)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 12, 5, padding=2, groups=12, bias=False)
        self.norm = nn.BatchNorm2d(12)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y + self.norm(self.conv(x))


class Branch2(nn.Module):
    def __init__(self, conv2: int, side: int, step: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 12, side, padding=conv2, dilation=step, groups=12, bias=False)
        self.norm = nn.BatchNorm2d(12)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y + self.norm(self.conv(x))


class DilatedBranches(nn.Module):
    """A large kernel, and dilated small ones beside it. For inference all of it is the large kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(12, 12, 13, padding=6, groups=12, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.branches = nn.ModuleList(
            [
                Branch(),
                *(
                    Branch2(conv2, side=side, step=step)
                    for conv2, side, step in zip((6, 3, 4, 5), (7, 3, 3, 3), (2, 3, 4, 5))
                ),
            ],
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.wide(x))
        for branch in self.branches:
            y = branch(x, y)
        return y


class UnirepBlock2(nn.Module):
    """Spatial mixing, a gate for each channel, an MLP with a response norm inside."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = DilatedBranches()
        self.norm = nn.BatchNorm2d(12)
        self.se = SqueezeExcite(12, hidden=3)
        self.fc1 = nn.Linear(12, 48)
        self.response = GlobalResponseNorm(48)
        self.fc2 = nn.Linear(48, 12, bias=False)
        self.norm2 = nn.BatchNorm2d(12)
        self.scale = LayerScale(12, init=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.response(F.gelu(self.fc1(self.se(self.norm(self.mixer(x)).permute(0, 2, 3, 1)))))
        y = self.norm2(self.fc2(y).permute(0, 3, 1, 2)) * self.scale.gamma[:, None, None]
        return x + y


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unirep_block = UnirepBlock2()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.unirep_block(x)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.down_norm = nn.LayerNorm(12, eps=1e-6)
        self.blocks = nn.ModuleList(Block2() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down_norm(self.down(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x)
        return x


class Unireplknet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.stem_norm1 = nn.LayerNorm(4, eps=1e-6)
        self.stem2 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.stem_norm2 = nn.LayerNorm(8, eps=1e-6)
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.norm = nn.LayerNorm(12, eps=1e-6)
        self.head = nn.Linear(12, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 64, 64):
            raise ValueError(f"image must be [b, c = 3, h = 64, w = 64], and is {list(image.shape)}")
        x = F.gelu(self.stem_norm1(self.stem1(image).permute(0, 2, 3, 1)))
        x = self.stem_norm2(self.stem2(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x.mean((2, 3))))
