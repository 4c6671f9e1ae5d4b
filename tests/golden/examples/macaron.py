"""Macaron Net (Lu et al., 2019): attention between two half steps of feed-forward, as a solver of differential
equations splits its steps (Strang and Marchuk).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.fc2(F.dropout(F.gelu(self.fc1(x)), 0.1, self.training)), 0.1, self.training)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 4))
        q, k, v = qkv.unbind(2)
        o = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), dropout_p=0.1 if self.training else 0.0
        )
        return F.dropout(self.proj(o.transpose(1, 2).flatten(2)), 0.1, self.training)


class MacaronLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = Mlp()
        self.norm1 = nn.LayerNorm(8, eps=1e-12)
        self.attention = SelfAttention()
        self.norm2 = nn.LayerNorm(8, eps=1e-12)
        self.after = Mlp()
        self.norm3 = nn.LayerNorm(8, eps=1e-12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x + 0.5 * self.before(x))
        x = self.norm2(x + self.attention(x))
        return self.norm3(x + 0.5 * self.after(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.macaron_layer = MacaronLayer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.macaron_layer(x)


class Macaron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(20, 8)
        self.place = nn.Embedding(8, 8)
        self.kind = nn.Embedding(9, 8)
        self.norm = nn.LayerNorm(8, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.pooler = nn.Linear(8, 8)

    def forward(self, tokens: torch.Tensor, segment: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, n], and is {list(tokens.shape)}")
        if segment.ndim != 2:
            raise ValueError(f"segment must be int[b, n], and is {list(segment.shape)}")
        device = tokens.device
        b, n = tokens.shape
        if segment.shape[0] != b:
            raise ValueError(f"axis b of segment must be b = {b}, and is {segment.shape[0]}")
        if segment.shape[1] != n:
            raise ValueError(f"axis n of segment must be n = {n}, and is {segment.shape[1]}")
        if n > 8:
            raise ValueError(f"there are as many places as `length`: n <= 8 must hold, and n = {n}")
        word = self.word(tokens)
        place = self.place(torch.arange(n, device=device))
        kind = self.kind(segment)
        x = F.dropout(self.norm(word + place + kind), 0.1, self.training)
        for layer in self.layers:
            x = layer(x)
        return x, torch.tanh(self.pooler(x[:, 0]))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Mlp):
                module.compile(**options)
