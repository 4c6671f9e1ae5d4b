"""ViG: Linear-complexity Visual Sequence Learning with Gated Linear Attention (Liao et al., AAAI 2025)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if not training or rate == 0:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    kept = torch.rand(shape, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1 - rate))


def in_chunks(
    inside: Callable[..., tuple[Tensor, ...]],
    step: Callable[..., tuple[Tensor, Tensor]],
    inputs: Sequence[Tensor | None],
    start: Tensor | None,
    chunk: int,
    final: bool,
    segment: int = 256,
) -> Tensor | tuple[Tensor, Tensor]:
    """q, k: [.., t, c], v: [.., t, d] and what else there is, in chunks of t: `inside` makes of several chunks side by
    side what `step` takes of each, all leading axes as one, to lead a state [b, c, d] on, from 0 or from `start`
    [.., c, d], and give the output; with `final` also the state after the last position, in the dtype of `start`. No
    more than a segment is at work at once, which bounds the memory.
    """
    given = [x for x in inputs if x is not None]
    k, v, exporting = given[1], given[2], torch.compiler.is_exporting()
    length, dtype = k.shape[-2], torch.promote_types(k.dtype, torch.float32)
    count = length // chunk + 2 if exporting else -(-length // chunk)
    end = count * chunk - length

    def chunks(x: Tensor) -> Tensor:
        x = x.to(dtype).expand(*x.shape[:-2], length, x.shape[-1])
        x = F.pad(x, (0, 0, 0, end)) if exporting or end else x
        if exporting:
            return x[..., torch.arange(count)[:, None] * chunk + torch.arange(chunk), :]
        return x.reshape(*x.shape[:-2], count, chunk, x.shape[-1])

    parts = [chunks(x) for x in given]
    zero = v.new_zeros(k.shape[-1], v.shape[-1], dtype=dtype)
    state, kind = (zero, v.dtype) if start is None else (start.to(dtype), start.dtype)
    lead = torch.broadcast_shapes(state.shape[:-2], *(x.shape[:-3] for x in parts))

    state, outputs = state.expand(*lead, *zero.shape).reshape(-1, *zero.shape), []
    if exporting:  # a loop of free length
        from torch._higher_order_ops.scan import scan

        def one(state: Tensor, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
            made = inside(*(x.reshape(-1, 1, *x.shape[-2:]) for x in parts))
            return step(state, *(x.squeeze(-3) for x in made))

        wide = [x.expand(*lead, *x.shape[-3:]).movedim(-3, 0) for x in parts]
        state, made = scan(one, state.contiguous(), wide)
        made = F.pad(made.movedim(0, -3).flatten(-3, -2), (0, 0, 0, -end))
    else:
        for some in zip(*(x.split(max(1, segment // chunk), -3) for x in parts), strict=True):
            made = inside(*(x.contiguous() for x in some))
            rows = (x.expand(*lead, some[1].shape[-3], *x.shape[-2:]) for x in made)
            for row in zip(*(x.reshape(-1, *x.shape[-3:]).unbind(-3) for x in rows), strict=True):
                state, output = step(state, *row)
                outputs.append(output)
        made = torch.cat(outputs, -2)[:, :length]
    made = made.reshape(*lead, length, v.shape[-1]).to(v.dtype)
    return (made, state.reshape(*lead, *zero.shape).to(kind)) if final else made


def under_decay(
    q: Tensor, k: Tensor, log_decay: Tensor, bounded: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of chunks [.., n, c], n a power of 2, with the logarithm of the decay of every position, [.., n, c] or
    [.., n, 1]:

    - the sums over c of q_i k_j times the decays after j up to i, 0 where j > i: [.., n, n];
    - q_i times the decays up to i, k_j times the decays after j, and the product of all decays.

    No difference of sums is taken, so that nothing overflows or cancels, however strong the decays are: one number a
    position is summed from every j to every i, and for a number a channel blocks of 1, 2, 4 ... positions meet the
    block before them over the border between the two. Where the decays of a chunk are `bounded` from below together,
    keys are divided by what queries are multiplied with, half of it on either side.
    """
    n = q.shape[-2]
    if log_decay.shape[-1] == 1:
        decays = log_decay.expand(*log_decay.shape[:-1], n).tril(-1).cumsum(-2).exp().tril()
        read = log_decay.cumsum(-2).exp()
        return (q @ k.mT) * decays, q * read, k * decays[..., -1:, :].mT, read[..., -1:, :]
    if bounded:
        total = log_decay.cumsum(-2)
        half = (total - total[..., -1:, :] / 2).exp()
        read, left = total.exp(), (total[..., -1:, :] - total).exp()
        return ((q * half) @ (k / half).mT).tril(), q * read, k * left, read[..., -1:, :]
    size, decay, k = 1, log_decay.exp(), k.expand(torch.broadcast_shapes(k.shape, log_decay.shape))
    scores = (q * k).sum(-1)[..., None, None]
    read, left, kept = q * decay, k, decay[..., None, :]
    while size < n:
        (read_0, read_1), (left_0, left_1) = (x.unflatten(-2, (-1, 2, size)).unbind(-3) for x in (read, left))
        (kept_0, kept_1), (scores_0, scores_1) = (x.unflatten(-3, (-1, 2)).unbind(-3) for x in (kept, scores))
        lower = torch.cat([read_1 @ left_0.mT, scores_1], -1)
        scores = torch.cat([F.pad(scores_0, (0, size)), lower], -2)
        read = torch.cat([read_0, read_1 * kept_0], -2).flatten(-3, -2)
        left = torch.cat([left_0 * kept_1, left_1], -2).flatten(-3, -2)
        kept, size = kept_0 * kept_1, 2 * size
    return scores.squeeze(-3), read, left, kept.squeeze(-3)


def linear_recurrence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    chunk: int = 32,
    bounded: bool = False,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """S_t = exp(log_decay_t) S_{t-1} + k_t v_t^T, o_t = scale * q_t S_t with q, k: [.., t, c], v: [.., t, d] and
    log_decay: [.., t, c] or [.., t, 1]; from S_0 = `start` [.., c, d], or from 0; with `final` also the last
    S, in the dtype of `start`.

    Inside a chunk every query meets the keys before it; the state passes from one chunk to the next. `bounded`: the
    decays of a chunk together are not below exp(-120).
    """

    def inside(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None = None) -> tuple[Tensor, ...]:
        """What the queries read of their own chunk and what they read the state with; what is kept of it; the keys and
        values that are added.
        """
        if log_decay is None:
            return (q @ k.mT).tril() @ v, q, k.new_ones(1, 1, 1), k.mT, v
        scores, q, k, kept = under_decay(q, k, log_decay, bounded)
        return scores @ v, q, kept.mT, k.mT, v

    def step(state: Tensor, own: Tensor, q: Tensor, kept: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return torch.baddbmm(state * kept, k, v), torch.baddbmm(own, q, state)

    return in_chunks(inside, step, (q * scale, k, v, log_decay), start, chunk, final)


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
        gates = -F.softplus(-gates) / 16
        log_decay, log_decay2 = gates.unbind(2)
        there = linear_recurrence(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), log_decay=log_decay.transpose(1, 2), chunk=16
        )
        back = linear_recurrence(
            q.flip(1).transpose(1, 2),
            k.flip(1).transpose(1, 2),
            v.flip(1).transpose(1, 2),
            log_decay=log_decay2.flip(1).transpose(1, 2),
            chunk=16,
        ).flip(-2)
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
