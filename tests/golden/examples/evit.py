"""EViT (Liang et al., ICLR 2022): a DeiT that keeps the patches cls attends to most, and fuses the rest into one
token.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Patchify(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 12, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 6))
        q, k, v = qkv.unbind(2)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(o.transpose(1, 2).flatten(2))


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
        self.norm1 = nn.LayerNorm(12, eps=1e-6)
        self.attn = SelfAttention()
        self.norm2 = nn.LayerNorm(12, eps=1e-6)
        self.mlp = Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class RankedAttention(nn.Module):
    """Attention whose first token, cls, also ranks the others: by what it attends to, the mean over the heads."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 6))
        q, k, v = qkv.unbind(2)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        seen = (torch.einsum("bhc,bnhc->bhn", q[:, 0], k) / 2.449489742783178).softmax(-1).mean(1)
        return self.proj(o.transpose(1, 2).flatten(2)), seen[..., 1:]


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(12, eps=1e-6)
        self.attn = RankedAttention()
        self.norm2 = nn.LayerNorm(12, eps=1e-6)
        self.mlp = Mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, score = self.attn(self.norm1(x))
        x = x + y
        patches = x[:, 1:]
        index, best = score.topk(12, -1)[::-1]
        kept = patches.gather(1, index[..., None].expand(-1, -1, 12))
        fused = torch.einsum("bn,bnc->bc", score, patches) - torch.einsum("bn,bnc->bc", best, kept)
        x = torch.cat((x[:, 0:1], torch.cat((kept, fused[:, None]), 1)), 1)
        return x + self.mlp(self.norm2(x))


class Evit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(12) * 0.02)
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(17, 12), std=0.02))
        self.patch_embed = Patchify()
        self.blocks = nn.ModuleList([Block(), Block2(), Block()])
        self.norm = nn.LayerNorm(12, eps=1e-6)
        self.head = nn.Linear(12, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        b = image.shape[0]
        x = self.patch_embed(image)
        x = torch.cat((self.cls_token[None].transpose(0, 1).expand(b, -1, -1), x), -1)
        x = (x + self.pos_embed.transpose(0, 1)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Mlp):
                module.compile(**options)
