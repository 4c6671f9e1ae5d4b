"""BranchyNet (Teerapittayanon et al., ICPR 2016): a ResNet for CIFAR whose easy samples leave it early.

A sample leaves by the first exit that is sure of it: the entropy of its guess is below a threshold. In training
the guesses of all exits are outputs, for a loss on each.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


def all_left(*leaves: torch.Tensor) -> bool:
    """Whether every sample has left by one of the exits; a compiler sees the whole network, for it nobody leaves."""
    return not torch.compiler.is_compiling() and bool(torch.stack(leaves).any(0).all())


def first_exit(values: list[torch.Tensor], leaves: list[torch.Tensor]) -> torch.Tensor:
    """For each sample the first value whose exit it leaves by, else the last."""
    *exits, result = values
    for value, leave in zip(reversed(exits), reversed(leaves), strict=True):
        result = torch.where(leave, value, result)
    return result


class ConvBn(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class Basic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBn(4, dim=4)
        self.conv2 = ConvBn(4, dim=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        return F.relu(y + x)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.basic = Basic()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.basic(x)


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvBn(4, dim=32)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.conv(x)).mean((2, 3)))


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block()])
        self.branch = Branch()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        for block in self.blocks:
            x = block(x)
        guess = self.branch(x)
        return x, guess, torch.special.entr(guess.softmax(-1)).sum(-1) < 1.5


class ConvBn2(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, dim, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class ConvBn3(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, dim, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class Basic2(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvBn2(dim)
        self.conv2 = ConvBn(dim, dim=dim)
        self.shortcut = ConvBn3(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        short = self.shortcut(x)
        return F.relu(y + short)


class Block2(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.basic = Basic2(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.basic(x)


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block2(4)])
        self.branch = Branch()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        for block in self.blocks:
            x = block(x)
        guess = self.branch(x)
        return x, guess, torch.special.entr(guess.softmax(-1)).sum(-1) < 1.5


class Stage3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block2(8)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class BranchyResnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBn(3, dim=4)
        self.stages = nn.ModuleList([Stage(), Stage2(), Stage3()])
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        if image.ndim != 4 or image.shape[1:] != (3, 16, 16):
            raise ValueError(f"image must be [b, c = 3, h = 16, w = 16], and is {list(image.shape)}")
        x = F.relu(self.stem(image))
        x, early, early_leaves = self.stages[0](x)
        if not self.training and all_left(early_leaves):
            return early
        x, early2, early_leaves2 = self.stages[1](x)
        if not self.training and all_left(early_leaves, early_leaves2):
            return first_exit([early, early2], [early_leaves[:, None]])
        x = self.stages[2](x)
        logits = self.head(x.mean((2, 3)))
        if self.training:
            return logits, early, early2
        return first_exit([early, early2, logits], [early_leaves[:, None], early_leaves2[:, None]])

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, ConvBn):
                module.compile(**options)
