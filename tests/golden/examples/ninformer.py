"""NiNformer: A Network in Network Transformer with Token Mixing Generated Gating Function
(Abdullah and Habib, arXiv:2403.02411), for CIFAR-10.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Patchify(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2)


class TokenMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(16, 12)
        self.fc2 = nn.Linear(12, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 12)
        self.fc2 = nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class MixerLayer(nn.Module):
    """Each channel over all tokens, then each token over all channels (Tolstikhin et al., NeurIPS 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.mlp_tokens = TokenMlp()
        self.norm2 = nn.LayerNorm(8)
        self.mlp_channels = Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class MixerGating(nn.Module):
    """A linear map of each token, times a gate that a mixer layer makes of all
    (Abdullah and Habib, NiNformer, arXiv:2403.02411).
    """

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 8)
        self.mixer = MixerLayer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x) * self.mixer(x)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mgu = MixerGating()
        self.ffn = Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mgu(self.norm(x))
        return x + self.ffn(self.norm(x))


class Ninformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patcher = Patchify()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.classifier = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.patcher(image).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean(1))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Mlp):
                module.compile(**options)
