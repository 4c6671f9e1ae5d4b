"""Mixtral (Jiang et al., arXiv:2401.04088): a Llama-like decoder whose feed-forward blocks are eight experts, of
which each token meets two.
"""

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


def load_balance(probability: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The balance loss of experts with probability [..., experts] that index [..., k] chooses among."""
    experts, tokens = probability.shape[-1], probability.flatten(0, -2)
    choices = index.flatten()
    chosen = tokens.new_zeros(experts).scatter_add(0, choices, torch.ones_like(choices, dtype=tokens.dtype))
    return experts * (chosen / tokens.shape[0] * tokens.mean(0)).sum()


class Losses(dict[str, torch.Tensor]):
    """Auxiliary losses by name, one value for each place of the network; copies and saved modules go without them."""

    def __deepcopy__(self, memo: object) -> "Losses":
        return Losses()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Losses, ()


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
        t = x.shape[1]
        q = self.q_proj(x).unflatten(-1, (2, 2, 8))
        k = self.k_proj(x).unflatten(-1, (2, 8))
        v = self.v_proj(x).unflatten(-1, (2, 8))
        turns = rotary_turns((t,), 4, dtype=q.dtype, device=q.device)
        turns2 = rotary_turns((t,), 4, dtype=k.dtype, device=k.device)
        k = turn(k, turns2, (1,))
        q = turn(q, turns, (1,))
        o = F.scaled_dot_product_attention(
            q.flatten(2, 3).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        return self.o_proj(o.transpose(1, 2).flatten(2))


class TopSoftmax(nn.Module):
    """The `top` most probable experts of a softmax; their probabilities, or these divided by their sum.

    Renormalised it is the router of Mixtral (Jiang et al., arXiv:2401.04088); of the probabilities as they are,
    top = 1 is that of Switch (Fedus et al., JMLR 2022).
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 4, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self.gate(x)
        probability = logits.softmax(-1)
        index, weight = probability.topk(2, -1)[::-1]
        z = torch.square(logits.logsumexp(-1)).mean((0, 1))
        return index, weight / weight.sum(-1)[..., None], load_balance(probability, index), z


class Swiglu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 48, bias=False)
        self.up = nn.Linear(32, 48, bias=False)
        self.down = nn.Linear(48, 32, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.silu(self.gate(x))
        return self.down(gate * self.up(x))


class Moe(nn.Module):
    """sum over the chosen experts e of weight[e] * expert_e(x), and shared(x) (Shazeer et al., ICLR 2017).

    Dropless, unless `capacity` lets each expert take only so many times its even share of a sample's tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.router = TopSoftmax()
        self.experts = nn.ModuleList(Swiglu() for _ in range(4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        index, weight, balance, z = self.router(x)
        parts, order = dispatch(x, index, 4)
        experts = [expert(part) for expert, part in zip(self.experts, parts)]
        return combine(experts, order, weight), balance, z


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(32, eps=1e-5)
        self.attn = CausalAttention()
        self.norm2 = nn.RMSNorm(32, eps=1e-5)
        self.moe = Moe()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = x + self.attn(self.norm1(x))
        moe, balance, z = self.moe(self.norm2(x))
        return x + moe, balance, z


class Mixtral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.losses = Losses()
        self.embed = nn.Embedding(128, 32)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.RMSNorm(32, eps=1e-5)
        self.head = nn.Linear(32, 128, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        x = self.embed(tokens)
        balances = []
        zs = []
        for layer in self.layers:
            x, balance, z = layer(x)
            balances.append(balance)
            zs.append(z)
        if self.training:
            self.losses = Losses({"balance": torch.stack(balances), "z": torch.stack(zs)})
        return self.head(self.norm(x))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Swiglu):
                module.compile(**options)
