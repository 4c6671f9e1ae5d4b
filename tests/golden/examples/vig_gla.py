"""ViG: Linear-complexity Visual Sequence Learning with Gated Linear Attention (Liao et al., AAAI 2025)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if rate == 0 or not training:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    return x * (x.new_empty(shape).bernoulli_(1 - rate) / (1 - rate))


def decayed_scores(q: Tensor, k: Tensor, log_decay: Tensor) -> Tensor:
    """[.., n, c] -> [.., n, n]: sum over c of q_i k_j exp(log_decay after j up to i) for j <= i, else 0. n is a power
    of 2.

    Blocks of 1, 2, 4 ... positions: the queries of every second block meet the keys of the block before it over the
    border between them, so that no exponent is positive, however strong the decay.
    """

    def pairs(x: Tensor, size: int) -> tuple[Tensor, ...]:
        return x.reshape(*x.shape[:-2], -1, 2, size, x.shape[-1]).unbind(-3)

    n, size = q.shape[-2], 1
    scores = (q * k).sum(-1)[..., None, None]
    while size < n:
        (_, q_next), (k_last, _), (before, after) = (pairs(x, size) for x in (q, k, log_decay))
        rest = F.pad(before[..., 1:, :].flip(-2).cumsum(-2).flip(-2), (0, 0, 0, 1))  # after j up to the border
        cross = (q_next * after.cumsum(-2).exp()) @ (k_last * rest.exp()).mT
        first, second = scores[..., 0::2, :, :], scores[..., 1::2, :, :]
        scores = torch.cat([F.pad(first, (0, size)), torch.cat([cross, second], -1)], -2)
        size *= 2
    return scores.squeeze(-3)


def segment_sums(x: Tensor) -> Tensor:
    """[.., n] -> [.., n, n]: at (i, j) the sum of x after j up to i, -inf where j is after i."""
    n, total = x.shape[-1], x.cumsum(-1)
    ahead = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
    return (total[..., :, None] - total[..., None, :]).masked_fill(ahead, float("-inf"))


def linear_recurrence(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None = None, scale: float = 1.0, chunk: int = 64
) -> Tensor:
    """S_t = exp(log_decay_t) S_{t-1} + k_t v_t^T, o_t = scale * q_t S_t with q, k: [.., t, c], v: [.., t, d] and
    log_decay: [.., t, c] or [.., t, 1].

    Inside a chunk every query meets the keys before it; the state passes from one chunk to the next.
    """
    length, dtype = q.shape[-2], torch.promote_types(q.dtype, torch.float32)

    def chunks(x: Tensor) -> Tensor:
        x = x.to(dtype).expand(*x.shape[:-2], length, x.shape[-1])
        return F.pad(x, (0, 0, 0, -length % chunk)).reshape(*x.shape[:-2], -1, chunk, x.shape[-1])

    q, k, v = chunks(q) * scale, chunks(k), chunks(v)
    decay = k.new_ones(1, 1, 1)
    if log_decay is None:
        scores = (q @ k.mT).tril()
    else:
        steps = chunks(log_decay)
        one = steps.shape[-1] == 1
        scores = (q @ k.mT) * segment_sums(steps[..., 0]).exp() if one else decayed_scores(q, k, steps)
        since = steps.cumsum(-2)
        q, k, decay = q * since.exp(), k * (since[..., -1:, :] - since).exp(), since[..., -1:, :].mT.exp()
    added = k.mT @ v
    decay = decay.expand(*decay.shape[:-3], added.shape[-3], *decay.shape[-2:])
    state, states = torch.zeros_like(added[..., 0, :, :] * decay[..., 0, :, :]), []
    for kept, more in zip(decay.unbind(-3), added.unbind(-3), strict=True):
        states.append(state)
        state = state * kept + more
    return (scores @ v + q @ torch.stack(states, -3)).flatten(-3, -2)[..., :length, :].to(v.dtype)


class GatedLinearScan(nn.Module):
    """Gated linear attention over the rows of a map in both directions, each with gates of its own, mixed with the
    neighbourhood (Liao et al., ViG, AAAI 2025).
    """

    def __init__(self) -> None:
        super().__init__()
        self.local = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.qkv = nn.Linear(12, 24, bias=False)
        self.gate1 = nn.Linear(12, 16, bias=False)
        self.gate2 = nn.Linear(16, 12)
        self.mix = nn.Linear(12, 12)
        self.local_norm = nn.RMSNorm(4, eps=1e-6)
        self.far_norm = nn.RMSNorm(4, eps=1e-6)
        self.proj = nn.Linear(12, 12, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = F.silu(self.local(x)).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(near).split((6, 6, 12), -1)
        q = q.unflatten(-1, (3, -1))
        k = k.unflatten(-1, (3, -1))
        v = v.unflatten(-1, (3, -1))
        gates = self.gate2(self.gate1(near)).unflatten(-1, (2, 3, 2))
        gates = -F.softplus(-gates, 1.0) / 16
        there, back = gates.unbind(2)
        there = linear_recurrence(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), log_decay=there.transpose(1, 2), chunk=16
        )
        back = linear_recurrence(q.flip(1).transpose(1, 2), k.flip(1).transpose(1, 2), v.flip(1).transpose(1, 2), log_decay=back.flip(1).transpose(1, 2), chunk=16).flip(
            -2
        )
        far = (there + back) * 0.3535533905932738
        mix = torch.sigmoid(self.mix(near)).unflatten(-1, (3, -1))
        near = self.local_norm(near.unflatten(-1, (3, -1)))
        y = mix * self.far_norm(far).transpose(1, 2) + (1 - mix) * near
        return self.proj(F.silu(y.unflatten(1, (4, -1)).flatten(3))).permute(0, 3, 1, 2)


class Swiglu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(12, 256, bias=False)
        self.up = nn.Linear(12, 256, bias=False)
        self.down = nn.Linear(256, 12, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.silu(self.gate(x))
        return self.down(gate * self.up(x))


class Block(nn.Module):
    def __init__(self, stochastic_depth: float) -> None:
        super().__init__()
        self.stochastic_depth = stochastic_depth
        self.norm1 = nn.RMSNorm(12, eps=1e-6)
        self.attn = GatedLinearScan()
        self.norm2 = nn.RMSNorm(12, eps=1e-6)
        self.mlp = Swiglu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + drop_path(self.attn(self.norm1(x).permute(0, 3, 1, 2)), self.stochastic_depth, self.training).permute(
            0, 2, 3, 1
        )
        return x + drop_path(self.mlp(self.norm2(x)), self.stochastic_depth, self.training)


class Vig(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(4, 4, 12), std=0.02))
        self.stem1 = nn.Conv2d(3, 6, 5, stride=4, padding=1)
        self.stem_norm1 = nn.LayerNorm(6)
        self.stem2 = nn.Conv2d(6, 12, 3, stride=2, padding=1)
        self.stem_norm2 = nn.LayerNorm(12)
        self.blocks = nn.ModuleList(Block(stochastic_depth) for stochastic_depth in (0.0, 0.1))
        self.norm = nn.RMSNorm(12, eps=1e-6)
        self.head = nn.Linear(12, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = F.silu(self.stem_norm1(self.stem1(image).permute(0, 2, 3, 1)))
        x = self.stem_norm2(self.stem2(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean((1, 2)))
