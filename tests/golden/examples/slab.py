"""SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized Batch
Normalization (Guo et al., ICML 2024), as DeiT.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class RepBatchNorm(nn.Module):
    """Batch norm and a share of x itself; when it runs it is one scale and shift, that folds into a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(()))
        self.bn = nn.BatchNorm2d(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(x) + self.alpha * x


class ProgressiveNorm(nn.Module):
    """PRepBN: share * layer_norm(x) + (1 - share) * rep_batch_norm(x). A network trains while the buffer `share`
    goes from 1 to 0, and runs with 0 (Guo et al., SLAB, ICML 2024).
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("share", torch.ones(()) * 0)
        self.norm1 = nn.LayerNorm(12, eps=1e-6)
        self.norm2 = RepBatchNorm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mul = (1 - self.share) * self.norm2(x.permute(0, 3, 1, 2))
        return self.share * self.norm1(x) + mul.permute(0, 2, 3, 1)


class SimplifiedLinearAttention(nn.Module):
    """Linear attention over relu(q) and relu(k + place), beside a depthwise convolution of v, the same for all
    heads (Guo et al., SLAB, ICML 2024).
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(4, 4, 3, 4))
        self.qkv = nn.Linear(12, 36)
        self.dwc = nn.Conv2d(4, 4, 5, padding=2, groups=4)
        self.proj = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).permute(0, 3, 1, 2).unflatten(1, (3, 3, 4))
        qkv0, qkv1, v = qkv.unbind(1)
        qkv0 = F.relu(qkv0)
        qkv1 = F.relu(qkv1 + self.place.permute(2, 3, 0, 1))
        weight = torch.einsum("bhcaw,bhc->bhaw", qkv0, qkv1.sum((3, 4)))
        total = torch.einsum("bhkaw,bhkc->bhawc", qkv0, torch.einsum("bhkaw,bhcaw->bhkc", qkv1, v))
        y = self.dwc(v.flatten(0, 1))
        y = total / (weight + 1e-6)[..., None] + y.permute(0, 2, 3, 1).unflatten(0, (-1, 3))
        return self.proj(y.permute(0, 2, 3, 1, 4).flatten(3))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, 48)
        self.fc2 = nn.Linear(48, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = ProgressiveNorm()
        self.attn = SimplifiedLinearAttention()
        self.norm2 = ProgressiveNorm()
        self.mlp = Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SlabDeit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(4, 4, 12), std=0.02))
        self.patch_embed = nn.Conv2d(3, 12, 8, stride=8)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = ProgressiveNorm()
        self.head = nn.Linear(12, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = (self.patch_embed(image) + self.pos_embed.permute(2, 0, 1)).permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean((1, 2)))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, ProgressiveNorm):
                module.compile(**options)
