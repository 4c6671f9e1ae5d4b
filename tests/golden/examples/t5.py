"""T5 (Raffel et al., JMLR 2020): an encoder and a decoder, offsets in buckets that all layers of each share, no
scale.
"""

from math import log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class T5Bias(nn.Module):
    """bias[head, i, j] = weight[bucket of the distance from query i to key j, head]

    The first half of the buckets hold one distance each, the others ranges that grow by one factor up to `distance`.
    Seen both ways, the later keys have buckets of their own, behind those of the earlier ones.
    """

    def __init__(self, buckets: int, heads: int, distance: int = 128) -> None:
        super().__init__()
        self.buckets, self.distance = buckets, distance
        self.weight = nn.Parameter(torch.randn(buckets, heads))

    def forward(self, size: int, causal: bool = False, past: int = 0) -> Tensor:
        """Of the queries behind `past` ones, and all keys."""
        device = self.weight.device
        place = torch.arange(past + size, device=device)
        ahead = place - place[past:, None]
        buckets = self.buckets if causal else self.buckets // 2
        apart = (-ahead).clamp(min=0) if causal else ahead.abs()
        single = buckets // 2
        growth = (apart.clamp(min=1) / single).log() / log(self.distance / single)
        far = (single + (growth * (buckets - single)).long()).clamp(max=buckets - 1)
        bucket = torch.where(apart < single, apart, far)
        if not causal:
            bucket = bucket + buckets * (ahead > 0)
        return F.embedding(bucket, self.weight).permute(2, 0, 1)


class BareAttention(nn.Module):
    """softmax(q k + position) v, from the tokens of x or from those of `memory`."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8, bias=False)
        self.k = nn.Linear(8, 8, bias=False)
        self.v = nn.Linear(8, 8, bias=False)
        self.o = nn.Linear(8, 8, bias=False)

    def forward(self, x: torch.Tensor, near: nn.Module) -> torch.Tensor:
        n = x.shape[1]
        q = self.q(x).unflatten(-1, (2, 4))
        k = self.k(x).unflatten(-1, (2, 4))
        v = self.v(x).unflatten(-1, (2, 4))
        bias = near(n)
        o = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=bias[None], scale=1.0
        )
        return self.o(o.transpose(1, 2).flatten(2))


class ReluMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wi = nn.Linear(8, 12, bias=False)
        self.wo = nn.Linear(12, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wo(F.relu(self.wi(x)))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(8, eps=1e-6)
        self.attn = BareAttention()
        self.norm2 = nn.RMSNorm(8, eps=1e-6)
        self.mlp = ReluMlp()

    def forward(self, x: torch.Tensor, near: nn.Module) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), near)
        return x + self.mlp(self.norm2(x))


class BareAttention2(nn.Module):
    """softmax(q k + position) v, from the tokens of x or from those of `memory`."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8, bias=False)
        self.k = nn.Linear(8, 8, bias=False)
        self.v = nn.Linear(8, 8, bias=False)
        self.o = nn.Linear(8, 8, bias=False)

    def forward(self, x: torch.Tensor, before: nn.Module) -> torch.Tensor:
        t = x.shape[1]
        q = self.q(x).unflatten(-1, (2, 4))
        k = self.k(x).unflatten(-1, (2, 4))
        v = self.v(x).unflatten(-1, (2, 4))
        bias = before(t, causal=True)
        mask = torch.ones(t, t, dtype=torch.bool, device=q.device).tril()
        o = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=torch.where(mask, bias[None], float("-inf")),
            scale=1.0,
        )
        return self.o(o.transpose(1, 2).flatten(2))


class BareAttention3(nn.Module):
    """softmax(q k + position) v, from the tokens of x or from those of `memory`."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 8, bias=False)
        self.k = nn.Linear(8, 8, bias=False)
        self.v = nn.Linear(8, 8, bias=False)
        self.o = nn.Linear(8, 8, bias=False)

    def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        q = self.q(x).unflatten(-1, (2, 4))
        k = self.k(memory).unflatten(-1, (2, 4))
        v = self.v(memory).unflatten(-1, (2, 4))
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), scale=1.0)
        return self.o(o.transpose(1, 2).flatten(2))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(8, eps=1e-6)
        self.attn = BareAttention2()
        self.norm2 = nn.RMSNorm(8, eps=1e-6)
        self.cross = BareAttention3()
        self.norm3 = nn.RMSNorm(8, eps=1e-6)
        self.mlp = ReluMlp()

    def forward(self, y: torch.Tensor, memory: torch.Tensor, before: nn.Module) -> torch.Tensor:
        y = y + self.attn(self.norm1(y), before)
        y = y + self.cross(self.norm2(y), memory)
        return y + self.mlp(self.norm3(y))


class T5(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.near = T5Bias(32, 2)
        self.encoder = nn.ModuleList(Encoder() for _ in range(2))
        self.encoder_norm = nn.RMSNorm(8, eps=1e-6)
        self.before = T5Bias(32, 2)
        self.decoder = nn.ModuleList(Decoder() for _ in range(2))
        self.decoder_norm = nn.RMSNorm(8, eps=1e-6)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if source.ndim != 2:
            raise ValueError(f"source must be int[b, n], and is {list(source.shape)}")
        if target.ndim != 2:
            raise ValueError(f"target must be int[b, t], and is {list(target.shape)}")
        b = source.shape[0]
        if target.shape[0] != b:
            raise ValueError(f"axis b of target must be b = {b}, and is {target.shape[0]}")
        x = self.embed(source)
        for encoder in self.encoder:
            x = encoder(x, self.near)
        memory = self.encoder_norm(x)
        y = self.embed(target)
        for decoder in self.decoder:
            y = decoder(y, memory, self.before)
        y = self.decoder_norm(y)
        return F.linear(y * 0.3535533905932738, self.embed.weight)

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, ReluMlp):
                module.compile(**options)
