"""Mamba: Linear-Time Sequence Modeling with Selective State Spaces (Gu and Dao, arXiv:2312.00752)."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ScanSteps(torch.autograd.Function):
    """h[t] = decay[t] * h[t - 1] + x[t] along an axis, from h = `state` or 0, in the place of x.

    With dy for the gradient of h, that of x is dx[t] = decay[t + 1] * dx[t + 1] + dy[t]: the scan from the end.
    """

    @staticmethod
    def forward(ctx: Any, decay: Tensor, x: Tensor, state: Tensor | None, axis: int) -> Tensor:
        before = state
        for factor, here in zip(decay.unbind(axis), x.unbind(axis), strict=True):
            before = here if before is None else here.addcmul_(factor, before)
        ctx.mark_dirty(x)
        ctx.save_for_backward(decay, x if ctx.needs_input_grad[0] else None, state)
        ctx.axis = axis
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (decay, states, state), axis = ctx.saved_tensors, ctx.axis
        after = decay.roll(-1, axis)
        dx: Tensor = ScanSteps.apply(after.flip(axis), grad.flip(axis), None, axis).flip(axis)  # type: ignore[no-untyped-call]
        dstate = None if state is None else dx.select(axis, 0) * decay.select(axis, 0)
        if states is None:
            return None, dx, dstate, None
        first = torch.zeros_like(states.select(axis, 0)) if state is None else state
        before = torch.cat([first.unsqueeze(axis), states.narrow(axis, 0, states.shape[axis] - 1)], axis)
        return dx * before, dx, dstate, None


def linear_scan(decay: Tensor | float, x: Tensor, state: Tensor | None = None) -> Tensor:
    """h[t] = decay[t] * h[t - 1] + x[t] along the first axis, from h = `state`, which is 0 by default; h is in single
    precision at least.

    In eager mode a loop, whose step is one fused operation. A compiler wants few operations: there, what each position
    knows of those before it is doubled until it knows all. An exported program does so up to 2 ** 20 positions.
    """
    dtype, length = torch.promote_types(x.dtype, decay.dtype) if isinstance(decay, Tensor) else x.dtype, x.shape[0]
    x = x.to(torch.promote_types(dtype, torch.float32))
    decay = decay.to(x.dtype) if isinstance(decay, Tensor) else torch.full_like(x[:1], decay).expand_as(x)
    if not torch.compiler.is_compiling():
        state = None if state is None else state.to(x.dtype).expand_as(x[0])
        states: Tensor = ScanSteps.apply(decay, x.clone(), state, 0)  # type: ignore[no-untyped-call]
        return states.to(dtype)
    if state is not None:
        x = torch.cat([torch.addcmul(x[:1], decay[:1], state.to(x.dtype)), x[1:]])
    reach = 2**20 if torch.compiler.is_exporting() else length
    for step in (2**i for i in range((reach - 1).bit_length())):
        ahead = [0, 0] * (x.ndim - 1) + [step, 0]
        x = torch.addcmul(x, decay, F.pad(x, ahead)[:length])
        decay = decay * F.pad(decay, ahead)[:length]
    return x.to(dtype)


def selective_scan(
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None = None,
    starts: Tensor | None = None,
    reverse: bool = False,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """y[t] = c[t] h[t] + skip u[t] for h[t] = exp(dt[t] a) h[t - 1] + dt[t] b[t] u[t], in float32 at least.

    u, dt: [.., t, channels]; a: [n, channels]; b, c: [.., t, n]; where `starts`, bool [.., t, 1], h is 0 before;
    h starts from `start` [.., n, channels], or from 0. With `final` also the last h, in the dtype of `start`.
    No more than 2 ** 18 states are at work at once, n before the channels; those of all positions under a compiler.
    """
    kind, whole = torch.promote_types(u.dtype, torch.float32), torch.compiler.is_compiling()
    given = [x.to(kind) for x in (u, dt, b, c)] + ([] if starts is None else [starts])
    if reverse:
        given = [x.flip(-2) for x in given]
    parts: Iterable[Sequence[Tensor]] = [given]
    if not whole:
        some = max(1, 2**18 // max(1, math.prod(u.shape[:-2]) * a.numel()))
        parts = zip(*(x.split(some, -2) for x in given), strict=True)
    a = (math.log2(math.e) * a.to(kind)).contiguous()
    lead = u.shape[:-2]
    state, outputs = None if start is None else start.to(kind).expand(*lead, *a.shape), []
    for now, step, write, read, *first in parts:
        decay = (step[..., None, :] * a).exp2_()
        if first:
            decay = decay.masked_fill(first[0][..., None], 0.0)
        x = (step * now)[..., None, :] * write[..., None]
        if whole:
            states = linear_scan(decay.movedim(-3, 0), x.movedim(-3, 0), state).movedim(0, -3)
        else:
            states = ScanSteps.apply(decay, x, state, -3)  # type: ignore[no-untyped-call]
        state = states.select(-3, -1).clone()  # the rest of the states can go
        outputs.append((read[..., None, :] @ states).squeeze(-2))
    y = torch.cat(outputs, -2)
    y = (y.flip(-2) if reverse else y).to(u.dtype)
    y = y if skip is None else torch.addcmul(y, skip, u)
    if not final or state is None:
        return y
    return y, state.expand(*lead, *a.shape).to(u.dtype if start is None else start.dtype)


class Mamba(nn.Module):
    """A selective state space model between a causal convolution and a gate (Gu and Dao, 2023)."""

    def __init__(self) -> None:
        super().__init__()
        self.a_log = nn.Parameter(
            torch.log(1 + torch.arange(4, dtype=torch.get_default_dtype()).expand((32, 4)).contiguous())
        )
        self.skip = nn.Parameter(torch.ones(32))
        self.in_proj = nn.Linear(16, 64, bias=False)
        self.conv = nn.Conv1d(32, 32, 4, groups=32)
        self.x_proj = nn.Linear(32, 9, bias=False)
        self.dt_proj = nn.Linear(1, 32)
        self.dt_proj.bias = nn.Parameter(torch.log(torch.expm1(0.001 * 100.0 ** torch.rand(32))))
        self.out_proj = nn.Linear(32, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, gate = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv(F.pad(u.transpose(1, 2), (3, 0)))).transpose(1, 2)
        dt, write, read = self.x_proj(u).split((1, 4, 4), -1)
        dt = F.softplus(self.dt_proj(dt))
        y = selective_scan(u, dt, (-torch.exp(self.a_log)).transpose(0, 1), write, read, self.skip)
        return self.out_proj(y * F.silu(gate))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(16, eps=1e-5)
        self.mixer = Mamba()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mixer(self.norm(x))


class MambaLm(nn.Module):
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
        return F.linear(self.norm(x), self.embed.weight)
