"""TokenFormer: Rethinking Transformer Scaling with Tokenized Model Parameters (Wang et al., ICLR 2025)."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotary_turns(
    places: Sequence[int],
    pairs: int,
    base: float = 10000.0,
    step: float = 1.0,
    speeds: Tensor | None = None,
    gain: float = 1.0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    past: int = 0,
) -> Tensor:
    """[cos, sin] of the angles at the places of a map, `gain` times: [2, *places, pairs of all axes]. Each axis has its
    own share of the pairs: pair i at place p turns by p * step * base^(-i / pairs), or p * speeds[i].
    Along the first one, `past` places come before.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    if speeds is None:
        speeds = step / base ** (torch.arange(pairs, dtype=dtype, device=device) / pairs)
    angles = []
    for axis, size in enumerate(places):
        first = 0 if axis else past
        angle = torch.arange(first, first + size, dtype=dtype, device=device)[:, None] * speeds
        angles.append(angle.view(-1, *(1,) * (len(places) - axis - 1), pairs).expand(*places, pairs))
    angle = torch.cat(angles, -1)
    return torch.stack((angle.cos(), angle.sin())) * gain


def turn(x: Tensor, turns: Tensor, axes: Sequence[int], interleaved: bool = False) -> Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin) for pairs of the first channels of x (the last axis), with the cos and
    sin of each place along `axes`: turns [2, *places, pairs].
    """
    dim = 2 * turns.shape[-1]
    places = [size if axis in axes else 1 for axis, size in enumerate(x.shape[:-1])][min(axes) :]
    cos, sin = turns.reshape(2, *places, dim // 2)
    turned = x[..., :dim]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
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
        t = x.shape[1]
        q = self.query(x).unflatten(-1, (2, -1))
        k = self.key(x).unflatten(-1, (2, -1))
        v = self.value(x).unflatten(-1, (2, -1))
        turns = rotary_turns((t,), 1, dtype=q.dtype, device=q.device)
        turns2 = rotary_turns((t,), 1, dtype=k.dtype, device=k.device)
        k = turn(k, turns2, (1,))
        q = turn(q, turns, (1,))
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
        return F.linear(self.norm(x), self.embed.weight)

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Pattention):
                module.compile(**options)
