"""DiT: Scalable Diffusion Models with Transformers (Peebles and Xie, ICCV 2023), with adaLN-zero."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def axial_sinusoid(
    sizes: Sequence[int],
    channels: int,
    dtype: torch.dtype,
    device: torch.device,
    base: float = 10000.0,
    interleaved: bool = True,
) -> Tensor:
    """[*sizes, channels]: the sinusoids of each axis in an equal share of the channels."""
    tables = []
    for axis, size in enumerate(sizes):
        table = sinusoid(size, channels // len(sizes), dtype, device, base, interleaved)
        others = [1] * len(sizes)
        tables.append(table.view(*others[:axis], size, *others[axis + 1 :], -1).expand(*sizes, -1))
    return torch.cat(tables, -1)


def label_dropout(label: torch.Tensor, rate: float, null: int, training: bool) -> torch.Tensor:
    """In training a label becomes `null` with probability `rate`."""
    if rate == 0 or not training:
        return label
    return label.masked_fill(torch.rand(label.shape, device=label.device) < rate, null)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 8))
        q, k, v = qkv.unbind(2)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(o.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(16, 64)
        self.fc2 = nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class AdaptiveLayer(nn.Module):
    """adaLN-zero: the condition makes shift, scale and gate of both branches, whose gates start at zero
    (Peebles and Xie, DiT, ICCV 2023).
    """

    def __init__(self) -> None:
        super().__init__()
        self.modulation = nn.Linear(16, 96)
        self.modulation.weight = nn.Parameter(torch.zeros(96, 16))
        self.modulation.bias = nn.Parameter(torch.zeros(96))
        self.attn = SelfAttention()
        self.mlp = Mlp()

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        m = self.modulation(F.silu(cond))
        shift1, scale1, gate1, shift2, scale2, gate2 = m.chunk(6, -1)
        attn = self.attn(F.layer_norm(x, (16,), eps=1e-6) * (1 + scale1)[:, None] + shift1[:, None])
        x = x + gate1[:, None] * attn
        mlp = self.mlp(F.layer_norm(x, (16,), eps=1e-6) * (1 + scale2)[:, None] + shift2[:, None])
        return x + gate2[:, None] * mlp


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.adaptive_layer = AdaptiveLayer()

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        return self.adaptive_layer(x, cond)


class AdaptiveNorm(nn.Module):
    """adaLN: a layer norm whose scale and shift the condition makes; starts as the plain norm."""

    def __init__(self) -> None:
        super().__init__()
        self.modulation = nn.Linear(16, 32)
        self.modulation.weight = nn.Parameter(torch.zeros(32, 16))
        self.modulation.bias = nn.Parameter(torch.zeros(32))

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        shift, scale = self.modulation(F.silu(cond)).chunk(2, -1)
        return F.layer_norm(x, (16,), eps=1e-6) * (1 + scale)[:, None] + shift[:, None]


class Dit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x_embedder = nn.Conv2d(2, 16, 2, stride=2)
        self.register_buffer("c", torch.arange(128), persistent=False)
        self.t_fc1 = nn.Linear(256, 16)
        self.t_fc2 = nn.Linear(16, 16)
        self.y_embedder = nn.Embedding(6, 16)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.final = AdaptiveNorm()
        self.linear = nn.Linear(16, 16)
        self.linear.weight = nn.Parameter(torch.zeros(16, 16))

    def forward(self, latent: torch.Tensor, timestep: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        if latent.ndim != 4 or latent.shape[1:] != (2, 8, 8):
            raise ValueError(f"latent must be [b, c = 2, h = 8, w = 8], and is {list(latent.shape)}")
        if timestep.ndim != 1:
            raise ValueError(f"timestep must be [b], and is {list(timestep.shape)}")
        if label.ndim != 1:
            raise ValueError(f"label must be int[b], and is {list(label.shape)}")
        dtype = latent.dtype
        b = latent.shape[0]
        if timestep.shape[0] != b:
            raise ValueError(f"axis b of timestep must be b = {b}, and is {timestep.shape[0]}")
        if label.shape[0] != b:
            raise ValueError(f"axis b of label must be b = {b}, and is {label.shape[0]}")
        x = self.x_embedder(latent)
        sinusoid2 = axial_sinusoid((4, 4), 16, dtype=x.dtype, device=x.device, interleaved=False)
        x = (x + sinusoid2.transpose(0, 2)).flatten(2).transpose(1, 2)
        angle = (timestep * torch.exp(self.c.to(dtype) * -0.07195578415606393)[:, None]).transpose(0, 1)
        t = self.t_fc2(F.silu(self.t_fc1(torch.cat((torch.cos(angle), torch.sin(angle)), -1))))
        cond = t + self.y_embedder(label_dropout(label, 0.1, 5, self.training))
        for block in self.blocks:
            x = block(x, cond)
        y = self.linear(self.final(x, cond)).unflatten(-1, (2, 2, 4))
        return y.unflatten(1, (4, -1)).transpose(2, 3).flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)
