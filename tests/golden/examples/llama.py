"""Llama 3 and 3.1 (Grattafiori et al., arXiv:2407.21783): RMSNorm, rotary positions, grouped queries, SwiGLU."""

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


class CausalAttention(nn.Module):
    """Grouped-query attention to the past with rotary positions, as in Llama (Touvron et al., 2023; Ainslie et al.,
    EMNLP 2023).
    """

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(32, 32, bias=False)
        self.k_proj = nn.Linear(32, 16, bias=False)
        self.v_proj = nn.Linear(32, 16, bias=False)
        self.o_proj = nn.Linear(32, 32, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q_proj(x).unflatten(-1, (2, 2, 8))
        k = self.k_proj(x).unflatten(-1, (2, 8))
        v = self.v_proj(x).unflatten(-1, (2, 8))
        q = rotary(q, 1)
        k = rotary(k, 1)
        o = F.scaled_dot_product_attention(
            q.flatten(2, 3).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        o = o.unflatten(1, (2, 2))
        return self.o_proj(o.permute(0, 3, 1, 2, 4).flatten(2))


class Swiglu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 48, bias=False)
        self.up = nn.Linear(32, 48, bias=False)
        self.down = nn.Linear(48, 32, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.silu(self.gate(x))
        return self.down(gate * self.up(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(32, eps=1e-5)
        self.attn = CausalAttention()
        self.norm2 = nn.RMSNorm(32, eps=1e-5)
        self.mlp = Swiglu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, 32)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.RMSNorm(32, eps=1e-5)
        self.head = nn.Linear(32, 128, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.head(x)
