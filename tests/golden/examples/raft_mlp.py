"""RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality? (Tatsunami and Taki, ACCV 2022)."""

import torch
import torch.nn.functional as F
from torch import nn


class MultiScaleEmbed(nn.Module):
    """Patches of several sizes around the same places, seen by one linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(240, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        unfold = F.pad(x.permute(0, 3, 1, 2), (2, 2, 2, 2)).unfold(2, 8, 4).unfold(3, 8, 4)
        x = x.unfold(1, 4, 4).unfold(2, 4, 4).flatten(3)
        return self.fc(torch.cat((x, unfold.flatten(4).permute(0, 2, 3, 1, 4).flatten(3)), -1))


class RaftMixing(nn.Module):
    """The columns of a map, then its rows, each with the channels of a raft: c / rafts channels apart
    (Tatsunami and Taki, RaftMLP, ACCV 2022).
    """

    def __init__(self, height: int, dim: int) -> None:
        super().__init__()
        self.height = height
        self.norm1 = nn.LayerNorm((2, dim // 2))
        self.fc1 = nn.Linear(2 * height, 4 * height)
        self.fc2 = nn.Linear(4 * height, 2 * height)
        self.norm2 = nn.LayerNorm((2, dim // 2))
        self.fc3 = nn.Linear(2 * height, 4 * height)
        self.fc4 = nn.Linear(4 * height, 2 * height)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.unflatten(-1, (2, -1))
        gelu = F.gelu(self.fc1(self.norm1(y).permute(0, 2, 4, 3, 1).flatten(3)))
        y = y + self.fc2(gelu).unflatten(-1, (2, self.height)).permute(0, 4, 1, 3, 2)
        gelu = F.gelu(self.fc3(self.norm2(y).transpose(2, 4).flatten(3)))
        y = y + self.fc4(gelu).unflatten(-1, (2, self.height)).transpose(2, 4)
        return y.flatten(3)


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, height: int, dim: int) -> None:
        super().__init__()
        self.token = RaftMixing(height, dim=dim)
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        token = self.token(x)
        return token + self.mlp(self.norm(token))


class Level(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = MultiScaleEmbed()
        self.blocks = nn.ModuleList([Block(8, dim=4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x


class MultiScaleEmbed2(nn.Module):
    """Patches of several sizes around the same places, seen by one linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.cat((x.unfold(1, 2, 2).unfold(2, 2, 2).flatten(3),), -1))


class Level2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = MultiScaleEmbed2()
        self.blocks = nn.ModuleList(Block(4, dim=8) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x


class RaftMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList([Level(), Level2()])
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = image.permute(0, 2, 3, 1)
        for level in self.levels:
            x = level(x)
        return self.head(self.norm(x).mean((1, 2)))
