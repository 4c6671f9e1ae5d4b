"""Mamba-2: Transformers are SSMs (Dao and Gu, ICML 2024, arXiv:2405.21060)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class Mamba2(nn.Module):
    """S = a S + dt u B^T with a decay for each head, y = S C + D u; all heads share B and C (Dao and Gu, ICML
    2024).
    """

    def __init__(self) -> None:
        super().__init__()
        self.a_log = nn.Parameter(torch.log(nn.init.uniform_(torch.empty(4), 1, 16)))
        self.dt_bias = nn.Parameter(torch.log(torch.expm1(0.001 * 100.0 ** torch.rand(4))))
        self.skip = nn.Parameter(torch.ones(4))
        self.in_proj = nn.Linear(16, 76, bias=False)
        self.conv = nn.Conv1d(40, 40, 4, groups=40)
        self.norm = nn.RMSNorm(32, eps=1e-5)
        self.out_proj = nn.Linear(32, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, mixed, dt = self.in_proj(x).split((32, 40, 4), -1)
        mixed = F.silu(self.conv(F.pad(mixed.transpose(1, 2), (3, 0))))
        u, write, read = mixed.split((32, 4, 4), 1)
        u = u.unflatten(1, (4, -1))
        dt = F.softplus(dt + self.dt_bias, 1.0)
        v = u * dt.transpose(1, 2)[:, :, None]
        dt = -torch.exp(self.a_log) * dt
        y = linear_recurrence(
            read.transpose(1, 2)[:, None],
            write.transpose(1, 2)[:, None],
            v.transpose(2, 3),
            log_decay=dt.transpose(1, 2)[:, :, :, None],
        )
        y = y + (self.skip[:, None, None] * u).transpose(2, 3)
        return self.out_proj(self.norm(y.transpose(1, 2).flatten(2) * F.silu(gate)))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(16, eps=1e-5)
        self.mixer = Mamba2()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mixer(self.norm(x))


class Mamba2Lm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 16)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.RMSNorm(16, eps=1e-5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return torch.einsum("abc,dc->abd", self.norm(x), self.embed.weight)
