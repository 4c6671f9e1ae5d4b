"""MOAT (Yang et al., ICLR 2023) from the equations of the paper, in double precision."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MBConv(nn.Module):
    """x + conv1x1(se(gelu(bn(dw(gelu(bn(conv1x1(bn(x)))))))), the depthwise convolution striding."""

    def __init__(self, c: int, dim: int, stride: int, gated: bool) -> None:
        super().__init__()
        self.stride = stride
        if c != dim:
            self.shortcut = nn.Conv2d(c, dim, 1)
        self.norm = nn.BatchNorm2d(c, eps=1e-3)
        self.expand = nn.Conv2d(c, 4 * dim, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(4 * dim, eps=1e-3)
        self.depthwise = nn.Conv2d(4 * dim, 4 * dim, 3, stride=stride, padding=1, groups=4 * dim, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * dim, eps=1e-3)
        if gated:
            self.squeeze, self.excite = nn.Linear(4 * dim, dim // 4), nn.Linear(dim // 4, 4 * dim)
        self.project = nn.Conv2d(4 * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        short = F.avg_pool2d(x, 2) if self.stride == 2 else x
        short = self.shortcut(short) if hasattr(self, "shortcut") else short
        y = F.gelu(self.norm1(self.expand(self.norm(x))))
        y = F.gelu(self.norm2(self.depthwise(y)))
        if hasattr(self, "squeeze"):
            gate = torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3))))))
            y = y * gate[:, :, None, None]
        return short + self.project(y)


class Attention(nn.Module):
    """x + attention(ln(x)), among all places of a window, with a bias for each offset and head."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.table = nn.Embedding((2 * window - 1) ** 2, heads)
        self.proj = nn.Linear(dim, dim)

    def bias(self) -> Tensor:
        side, rows = self.window, self.table.weight.unflatten(0, (2 * self.window - 1, -1))
        places = [(i, j) for i in range(side) for j in range(side)]
        return torch.stack(
            [torch.stack([rows[a - c + side - 1, b - d + side - 1] for c, d in places]) for a, b in places]
        ).permute(2, 0, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, height, width = x.shape
        side = self.window
        cells = x.reshape(b, c, height // side, side, width // side, side).permute(0, 2, 4, 3, 5, 1)
        q, k, v = self.qkv(self.norm(cells.reshape(-1, side * side, c))).chunk(3, -1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))
        scores = q @ k.transpose(2, 3) / (c // self.heads) ** 0.5 + self.bias()
        y = self.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        y = y.reshape(b, height // side, width // side, side, side, c).permute(0, 5, 1, 3, 2, 4)
        return x + y.reshape(x.shape)


class Moat(nn.Module):
    """A stem, two stages of mobile convolutions, and stages of mobile convolution and attention in turn."""

    def __init__(
        self, dims: Sequence[int], depths: Sequence[int], stem: int, head: int, window: int, size: int
    ) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, stem, 3, stride=2, padding=1), nn.BatchNorm2d(stem, eps=1e-3)
        self.conv2 = nn.Conv2d(stem, stem, 3, padding=1)
        layers: list[nn.Module] = []
        for s, (c, dim, depth) in enumerate(zip((stem, *dims), dims, depths, strict=False)):
            for i in range(depth):
                layers.append(MBConv(dim if i else c, dim, 1 if i else 2, gated=s < 2))
                if s >= 2:
                    layers.append(Attention(dim, dim // head, min(window, size // 2 ** (s + 2))))
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(dims[-1]), nn.Linear(dims[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.conv2(F.gelu(self.norm1(self.conv1(x)))))
        return self.head(self.norm(x.mean((2, 3))))
