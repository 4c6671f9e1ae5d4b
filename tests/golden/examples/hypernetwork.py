"""Weights that are made: by a small network for all layers of a large one (Ha et al., HyperNetworks, ICLR 2017),
and for each sample by what is on its image (Yang et al., CondConv, NeurIPS 2019) or by its task.
"""

import torch
import torch.nn.functional as F
from torch import nn


class CondConv(nn.Module):
    """A kernel for each sample: the sum of those of the experts, weighted by gates that see the whole map
    (Yang et al., CondConv, NeurIPS 2019).
    """

    def __init__(self) -> None:
        super().__init__()
        self.bank = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(3, 8, 8, 3, 3), a=5**0.5))
        self.routing = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b = x.shape[0]
        gates = torch.sigmoid(self.routing(x.mean((2, 3))))
        weight = torch.einsum("be,euchw->buchw", gates, self.bank)
        conv = F.conv2d(x.unsqueeze(0).flatten(1, 2), weight.flatten(0, 1), padding=1, groups=b)
        return conv.unflatten(1, (-1, 8)).squeeze(0)


class DynamicDepthwise(nn.Module):
    """A kernel for each sample and channel, made from the mean of the map (Chen et al., CVPR 2020; Han et al., ICLR
    2022).
    """

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Linear(8, 2)
        self.span = nn.Linear(2, 200)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b = x.shape[0]
        weight = self.span(F.gelu(self.reduce(x.mean((2, 3))))).unflatten(-1, (8, 5, 5))
        depthwise = F.conv2d(
            x.unsqueeze(0).flatten(1, 2),
            weight.unsqueeze(-1).permute(0, 1, 4, 2, 3).flatten(0, 1),
            padding=2,
            groups=8 * b,
        )
        return depthwise.unflatten(1, (-1, 8)).squeeze(0)


class GeneratedLinear(nn.Module):
    """x V U^T + shift, with matrices U and V of a low rank that a task makes (Ha et al., HyperNetworks, ICLR 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.to_u = nn.Linear(8, 48)
        self.to_u.weight = nn.Parameter(
            nn.init.kaiming_normal_(torch.empty(48, 8), nonlinearity="linear") * 0.3535533905932738
        )
        self.to_v = nn.Linear(8, 64)
        self.to_v.weight = nn.Parameter(
            nn.init.kaiming_normal_(torch.empty(64, 8), nonlinearity="linear") * 0.3535533905932738
        )
        self.to_shift = nn.Linear(8, 6)
        self.to_shift.weight = nn.Parameter(torch.zeros(6, 8))

    def forward(self, x: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        u = self.to_u(task).unflatten(-1, (6, 8))
        v = self.to_v(task).unflatten(-1, (8, 8))
        shift = self.to_shift(task)
        x = torch.einsum("bhwr,bur->bhwu", torch.einsum("bchw,bcr->bhwr", x, v), u)
        return (x + shift[:, None, None]).permute(0, 3, 1, 2)


class Hypernetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.trunk = nn.Linear(4, 8)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.cond_conv = CondConv()
        self.norm1 = nn.BatchNorm2d(8)
        self.dynamic_depthwise = DynamicDepthwise()
        self.norm2 = nn.BatchNorm2d(8)
        self.generated_linear = GeneratedLinear()
        self.head = nn.Linear(6, 5)

    def forward(self, image: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 8, 8):
            raise ValueError(f"image must be [b, c = 3, h = 8, w = 8], and is {list(image.shape)}")
        if task.ndim != 1:
            raise ValueError(f"task must be int[b], and is {list(task.shape)}")
        b = image.shape[0]
        if task.shape[0] != b:
            raise ValueError(f"axis b of task must be b = {b}, and is {task.shape[0]}")
        about = F.relu(self.trunk(self.table(task)))
        x = self.dynamic_depthwise(F.relu(self.norm1(self.cond_conv(F.relu(self.stem(image))))))
        x = F.avg_pool2d(self.norm2(x), 4)
        y = F.relu(self.generated_linear(x, about))
        return self.head(y.mean((2, 3)))
