"""DeepSeek-V3 (DeepSeek-AI, arXiv:2412.19437): latent attention, and experts chosen within the best groups of them."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def combine(parts: Sequence[torch.Tensor], order: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What the experts made of their tokens, from `order` back to the tokens and summed with weight [..., k]."""
    rows, last = torch.cat(list(parts)), weight.ndim - 1
    choices = rows.new_zeros(weight.numel(), *rows.shape[1:]).index_copy(0, order[: rows.shape[0]], rows)
    weight = weight.to(rows.dtype)[(..., *[None] * (rows.ndim - 1))]
    return (choices.view(*weight.shape[: last + 1], *rows.shape[1:]) * weight).sum(last)


def dispatch(x: torch.Tensor, index: torch.Tensor, experts: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """The tokens of x [..., *rest] that each expert is chosen for by index [..., k], and the places of these among all
    choices. An index of `experts` is for nobody.
    """
    choices = index.flatten()
    order = choices.argsort(stable=True)
    counts = choices.new_zeros(experts + 1).scatter_add(0, choices, torch.ones_like(choices))
    tokens = x.flatten(0, index.ndim - 2)[order // index.shape[-1]]
    return torch.split(tokens, counts.tolist())[:experts], order


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


class LatentAttention(nn.Module):
    """Queries, and keys with values, pass through vectors of a low rank; positions turn channels of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.q_a = nn.Linear(8, 6, bias=False)
        self.q_norm = nn.RMSNorm(6, eps=1e-6)
        self.q_b = nn.Linear(6, 12, bias=False)
        self.kv_a = nn.Linear(8, 6, bias=False)
        self.kv_norm = nn.RMSNorm(4, eps=1e-6)
        self.kv_b = nn.Linear(4, 14, bias=False)
        self.o = nn.Linear(6, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = x.shape[1]
        q = self.q_b(self.q_norm(self.q_a(x))).unflatten(-1, (2, 6))
        latent, shared = self.kv_a(x).split((4, 2), -1)
        k, v = self.kv_b(self.kv_norm(latent)).unflatten(-1, (2, 7)).split((4, 3), -1)
        still, moving = q.split((4, 2), -1)
        turns = rotary_turns((t,), 1, dtype=moving.dtype, device=moving.device)
        turns2 = rotary_turns((t,), 1, dtype=shared.dtype, device=shared.device)
        o = turn(shared, turns2, (1,), interleaved=True)
        q = torch.cat((still, turn(moving, turns, (1,), interleaved=True)), -1)
        k = torch.cat((k, o[:, :, None].expand(-1, -1, 2, -1)), -1)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        return self.o(o.transpose(1, 2).flatten(2))


class Swiglu(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(8, hidden, bias=False)
        self.up = nn.Linear(8, hidden, bias=False)
        self.down = nn.Linear(hidden, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.silu(self.gate(x))
        return self.down(gate * self.up(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(8, eps=1e-6)
        self.attn = LatentAttention()
        self.norm2 = nn.RMSNorm(8, eps=1e-6)
        self.mlp = Swiglu(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GroupedSigmoid(nn.Module):
    """The `top` experts among those of the `kept` groups whose two best sum to most."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 8, bias=False)
        self.register_buffer("bias", torch.full((8,), 0.0))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dtype = x.dtype
        score = torch.sigmoid(self.gate(x))
        choice = (score + self.bias).unflatten(-1, (4, -1))
        _, best = choice.topk(2, -1)[::-1]
        found, _ = best.sum(-1).topk(2, -1)[::-1]
        open = F.one_hot(found, 4).to(dtype).sum(2)
        limited = torch.where((open > 0)[..., None], choice, float("-inf")).flatten(2)
        index, _ = limited.topk(3, -1)[::-1]
        weight = score.gather(-1, index)
        return index, 2.5 * weight / (weight.sum(-1) + 1e-20)[..., None]


class Moe(nn.Module):
    """sum over the chosen experts e of weight[e] * expert_e(x), and shared(x) (Shazeer et al., ICLR 2017).

    Dropless, unless `capacity` lets each expert take only so many times its even share of a sample's tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.router = GroupedSigmoid()
        self.experts = nn.ModuleList(Swiglu(6) for _ in range(8))
        self.shared = Swiglu(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        index, weight = self.router(x)
        parts, order = dispatch(x, index, 8)
        experts = [expert(part) for expert, part in zip(self.experts, parts)]
        routed = combine(experts, order, weight)
        return routed + self.shared(x)


class Layer2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(8, eps=1e-6)
        self.attn = LatentAttention()
        self.norm2 = nn.RMSNorm(8, eps=1e-6)
        self.mlp = Moe()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class DeepseekV3(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layers = nn.ModuleList([Layer(), Layer2()])
        self.norm = nn.RMSNorm(8, eps=1e-6)
        self.head = nn.Linear(8, 20, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Swiglu):
                module.compile(**options)
