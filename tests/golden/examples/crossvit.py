"""CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image Classification (Chen et al., ICCV 2021)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Patchify(nn.Module):
    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2)


class Branch(nn.Module):
    """Patches of one size, with a token of their own for the class."""

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=0.02))
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(17, dim), std=0.02))
        self.patch_embed = Patchify(dim, patch=patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b = x.shape[0]
        x = torch.cat((self.cls_token[None].transpose(0, 1).expand(b, -1, -1), self.patch_embed(x)), -1)
        return x + self.pos_embed.transpose(0, 1)


class Branch2(nn.Module):
    def __init__(self, dim: int, patch: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.branch = Branch(dim, patch=patch)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.branch(F.interpolate(image, size=self.side, mode="bicubic"))


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, self.dim // 2))
        q, k, v = qkv.unbind(2)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(o.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(12)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Encoder2(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(8) for _ in range(count))

    def forward(self, x_2: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x_2 = block(x_2)
        return x_2


class Exchange(nn.Module):
    """The class token of x, as wide as the other branch, attends to its patches, and comes back."""

    def __init__(self, dim: int, other_dim: int) -> None:
        super().__init__()
        self.other_dim = other_dim
        self.norm_in = nn.LayerNorm(dim, eps=1e-6)
        self.project = nn.Linear(dim, other_dim)
        self.norm = nn.LayerNorm(other_dim, eps=1e-6)
        self.wq = nn.Linear(other_dim, other_dim)
        self.wk = nn.Linear(other_dim, other_dim)
        self.wv = nn.Linear(other_dim, other_dim)
        self.proj = nn.Linear(other_dim, other_dim)
        self.norm_out = nn.LayerNorm(other_dim, eps=1e-6)
        self.revert = nn.Linear(other_dim, dim)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        cls = self.project(F.gelu(self.norm_in(x[:, 0])))
        seen = self.norm(torch.cat((cls[:, None], other[:, 1:]), 1))
        q = self.wq(seen[:, 0]).unflatten(-1, (2, self.other_dim // 2))
        k = self.wk(seen).unflatten(-1, (2, self.other_dim // 2))
        v = self.wv(seen).unflatten(-1, (2, self.other_dim // 2))
        q = F.scaled_dot_product_attention(q[:, :, None], k.transpose(1, 2), v.transpose(1, 2)).squeeze(2)
        cls = cls + self.proj(q.flatten(1))
        cls = self.revert(F.gelu(self.norm_out(cls)))
        return torch.cat((cls[:, None], x[:, 1:]), 1)


class Exchange2(nn.Module):
    def __init__(self, dim: int, other_dim: int) -> None:
        super().__init__()
        self.exchange = Exchange(dim, other_dim=other_dim)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.exchange(x, other)


class Stage(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([Encoder(), Encoder2(count)])
        self.exchanges = nn.ModuleList(Exchange2(dim, other_dim=other_dim) for dim, other_dim in zip((12, 8), (8, 12)))

    def forward(self, x: torch.Tensor, x_2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoders = self.encoders[0](x)
        other = self.encoders[1](x_2)
        tokens = []
        for exchange, x, other2 in zip(self.exchanges, [encoders, other], [other, encoders]):
            token = exchange(x, other2)
            tokens.append(token)
        return tokens[0], token


class Vote(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(x)[:, 0])


class Crossvit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            Branch2(dim, patch=patch, side=side) for dim, patch, side in zip((12, 8), (6, 8), (24, 32))
        )
        self.stages = nn.ModuleList(Stage(count) for count in (2, 1))
        self.votes = nn.ModuleList(Vote(dim) for dim in (12, 8))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        tokens = []
        for branch in self.branches:
            token = branch(image)
            tokens.append(token)
        x = tokens[0].transpose(1, 2)
        x_2 = token.transpose(1, 2)
        for stage in self.stages:
            x, x_2 = stage(x, x_2)
        logits = []
        for vote, x2 in zip(self.votes, [x, x_2]):
            logit = vote(x2)
            logits.append(logit)
        return (logits[0] + logit) / 2

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Block):
                module.compile(**options)
