"""TokenFormer: Rethinking Transformer Scaling with Tokenized Model Parameters (Wang et al., ICLR 2025)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotary(x: Tensor, axis: int, base: float = 10000.0, dim: int | None = None, interleaved: bool = False) -> Tensor:
    """Turn the pairs of the first `dim` channels of x (the last axis) at place p of `axis` by p * base^(-2 i / dim)."""
    dim = x.shape[-1] if dim is None else dim
    dtype = torch.promote_types(x.dtype, torch.float32)
    speed = 1.0 / base ** (torch.arange(0, dim, 2, dtype=dtype, device=x.device) / dim)
    angle = torch.arange(x.shape[axis], dtype=dtype, device=x.device)[:, None] * speed
    angle = angle.view(-1, *(1,) * (x.ndim - axis - 2), dim // 2)
    turned = x[..., :dim]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    cos, sin = angle.cos(), angle.sin()
    a, b = a * cos - b * sin, b * cos + a * sin
    turned = torch.stack((a, b), -1).flatten(-2) if interleaved else torch.cat((a, b), -1)
    return torch.cat((turned.to(x.dtype), x[..., dim:]), -1) if dim < x.shape[-1] else turned.to(x.dtype)


class Pattention(nn.Module):
    """Attention to parameters: the scores x K^T, scaled to the length sqrt(tokens), through gelu, times V.
    K is [tokens, c] and V [tokens, units] (Wang et al., TokenFormer, ICLR 2025).
    """

    def __init__(self, tokens: int, mul: float) -> None:
        super().__init__()
        self.mul = mul
        self.key = nn.Linear(16, tokens, bias=False)
        self.key.weight = nn.Parameter(torch.randn(tokens, 16) * 0.02)
        self.value = nn.Linear(tokens, 16, bias=False)
        self.value.weight = nn.Parameter(torch.randn(16, tokens) * 0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.key(x)
        return self.value(F.gelu(F.normalize(scores, dim=-1) * self.mul))


class TokenAttention(nn.Module):
    """Causal attention whose maps are attention to parameters; rotary positions on a quarter of each head."""

    def __init__(self) -> None:
        super().__init__()
        self.query = Pattention(16, mul=4.0)
        self.key = Pattention(16, mul=4.0)
        self.value = Pattention(16, mul=4.0)
        self.proj = Pattention(16, mul=4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.query(x).unflatten(-1, (2, -1))
        k = self.key(x).unflatten(-1, (2, -1))
        v = self.value(x).unflatten(-1, (2, -1))
        k = rotary(k, 1, dim=2)
        q = rotary(q, 1, dim=2)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        o = o.transpose(1, 2).flatten(2)
        return self.proj(o)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = TokenAttention()
        self.mlp = Pattention(64, mul=8.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(F.layer_norm(x, (16,)))
        return x + self.mlp(F.layer_norm(x, (16,)))


class Tokenformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.embed.weight = nn.Parameter(torch.randn(30, 16) * 0.02)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.LayerNorm(16)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if ids.ndim != 2:
            raise ValueError(f"ids must be int[b, t], and is {list(ids.shape)}")
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return torch.einsum("abc,dc->abd", self.norm(x), self.embed.weight)
