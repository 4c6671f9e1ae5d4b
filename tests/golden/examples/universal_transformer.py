"""Universal Transformer (Dehghani et al., ICLR 2019): one layer run again and again, for as long as each token
needs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Losses(dict[str, torch.Tensor]):
    """Auxiliary losses by name, one value for each place of the network; copies and saved modules go without them."""

    def __deepcopy__(self, memo: object) -> "Losses":
        return Losses()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Losses, ()


def sinusoid(
    size: int,
    channels: int,
    dtype: torch.dtype,
    device: torch.device,
    base: float = 10000.0,
    interleaved: bool = True,
    past: int = 0,
) -> Tensor:
    """table[p, 2 i] = sin(p / base^(2 i / channels)), table[p, 2 i + 1] = cos of it; or all sines, then all cosines;
    p from `past`.
    """
    exact = torch.promote_types(dtype, torch.float32)
    speed = base ** -(torch.arange(0, channels, 2, dtype=exact, device=device) / channels)
    angle = torch.arange(past, past + size, dtype=exact, device=device)[:, None] * speed
    return torch.stack((angle.sin(), angle.cos()), -1 if interleaved else 1).flatten(1).to(dtype)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 4))
        q, k, v = qkv.unbind(2)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return F.dropout(self.proj(o.transpose(1, 2).flatten(2)), 0.1, self.training)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 32)
        self.fc2 = nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.fc2(F.dropout(F.relu(self.fc1(x)), 0.1, self.training)), 0.1, self.training)


class UniversalTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.losses = Losses()
        self.embed = nn.Embedding(20, 8)
        self.halting = nn.Linear(8, 1)
        self.halting.bias = nn.Parameter(torch.full((1,), 1.0))
        self.attention = SelfAttention()
        self.norm1 = nn.LayerNorm(8)
        self.transition = Mlp()
        self.norm2 = nn.LayerNorm(8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, n], and is {list(tokens.shape)}")
        device = tokens.device
        b, n = tokens.shape
        embedded = self.embed(tokens) * 2.8284271247461903
        place = sinusoid(n, 8, dtype=embedded.dtype, device=embedded.device)
        moment = sinusoid(4, 8, dtype=self.embed.weight.dtype, device=device)
        h = embedded
        state = embedded.new_zeros(b, n, 8)
        halted = embedded.new_zeros(b, n)
        remainder = embedded.new_zeros(b, n)
        updates = embedded.new_zeros(b, n)
        states = []
        thoughts = []
        for moment_step in moment.unbind(0):
            x = h + place + moment_step
            p = torch.sigmoid(self.halting(x).squeeze(-1))
            running = (halted < 1).to(moment_step.dtype)
            ends = running * (halted + p * running > 0.99).to(moment_step.dtype)
            goes = running - ends
            halted = halted + p * goes
            remainder = remainder + ends * (1 - halted)
            updates = updates + running
            weight = p * goes + ends * remainder
            a = self.norm1(x + self.attention(x))
            h = self.norm2(a + self.transition(a))
            state = weight[..., None] * h + (1 - weight)[..., None] * state
            states.append(state)
            thoughts.append(updates + remainder)
            halted = halted + ends * remainder
        ponder = torch.stack(thoughts, 1)[:, 3].mean((0, 1))
        if self.training:
            self.losses = Losses({"ponder": torch.stack([ponder])})
        return torch.stack(states, 1)[:, 3]
