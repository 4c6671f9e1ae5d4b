"""VMamba: Visual State Space Model (Liu et al., NeurIPS 2024, arXiv:2401.10166), as first published: blocks without
an MLP.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

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


class PatchEmbed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scan(nn.Module):
    def __init__(self, height: int, inner: int) -> None:
        super().__init__()
        self.height = height
        self.a_log = nn.Parameter(
            torch.log(1 + torch.arange(2, dtype=torch.get_default_dtype()).expand((inner, 2)).contiguous())
        )
        self.skip = nn.Parameter(torch.ones(inner))
        self.x_proj = nn.Linear(inner, 5, bias=False)
        self.dt_proj = nn.Linear(1, inner)
        self.dt_proj.bias = nn.Parameter(torch.log(torch.expm1(0.001 * 100.0 ** torch.rand(inner))))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        dt, write, read = self.x_proj(u).split((1, 2, 2), -1)
        dt = F.softplus(self.dt_proj(dt))
        y = -torch.exp(self.a_log)
        write = write.flatten(1, 2)
        read = read.flatten(1, 2)
        y = selective_scan(u.flatten(1, 2), dt.flatten(1, 2), y.transpose(0, 1), write, read, self.skip)
        return y.unflatten(1, (-1, self.height))


class Scan2(nn.Module):
    def __init__(self, height: int, inner: int) -> None:
        super().__init__()
        self.height = height
        self.a_log = nn.Parameter(
            torch.log(1 + torch.arange(2, dtype=torch.get_default_dtype()).expand((inner, 2)).contiguous())
        )
        self.skip = nn.Parameter(torch.ones(inner))
        self.x_proj = nn.Linear(inner, 5, bias=False)
        self.dt_proj = nn.Linear(1, inner)
        self.dt_proj.bias = nn.Parameter(torch.log(torch.expm1(0.001 * 100.0 ** torch.rand(inner))))

    def forward(self, u: torch.Tensor, y2: torch.Tensor) -> torch.Tensor:
        dt, write, read = self.x_proj(u).split((1, 2, 2), -1)
        dt = F.softplus(self.dt_proj(dt))
        y = write.transpose(1, 2).flatten(1, 2)
        read = read.transpose(1, 2).flatten(1, 2)
        dt = dt.transpose(1, 2).flatten(1, 2)
        u = u.transpose(1, 2).flatten(1, 2)
        y = selective_scan(u, dt, (-torch.exp(self.a_log)).transpose(0, 1), y, read, self.skip)
        return y2 + y.unflatten(1, (-1, self.height)).transpose(1, 2)


class Scan3(nn.Module):
    def __init__(self, height: int, inner: int) -> None:
        super().__init__()
        self.height = height
        self.a_log = nn.Parameter(
            torch.log(1 + torch.arange(2, dtype=torch.get_default_dtype()).expand((inner, 2)).contiguous())
        )
        self.skip = nn.Parameter(torch.ones(inner))
        self.x_proj = nn.Linear(inner, 5, bias=False)
        self.dt_proj = nn.Linear(1, inner)
        self.dt_proj.bias = nn.Parameter(torch.log(torch.expm1(0.001 * 100.0 ** torch.rand(inner))))

    def forward(self, u: torch.Tensor, y2: torch.Tensor) -> torch.Tensor:
        dt, write, read = self.x_proj(u).split((1, 2, 2), -1)
        dt = F.softplus(self.dt_proj(dt))
        y = -torch.exp(self.a_log)
        write = write.flatten(1, 2)
        read = read.flatten(1, 2)
        dt = dt.flatten(1, 2)
        y = selective_scan(u.flatten(1, 2), dt, y.transpose(0, 1), write, read, self.skip, reverse=True)
        return y2 + y.unflatten(1, (-1, self.height))


class Scan4(nn.Module):
    def __init__(self, height: int, inner: int) -> None:
        super().__init__()
        self.height = height
        self.a_log = nn.Parameter(
            torch.log(1 + torch.arange(2, dtype=torch.get_default_dtype()).expand((inner, 2)).contiguous())
        )
        self.skip = nn.Parameter(torch.ones(inner))
        self.x_proj = nn.Linear(inner, 5, bias=False)
        self.dt_proj = nn.Linear(1, inner)
        self.dt_proj.bias = nn.Parameter(torch.log(torch.expm1(0.001 * 100.0 ** torch.rand(inner))))

    def forward(self, u: torch.Tensor, y2: torch.Tensor) -> torch.Tensor:
        dt, write, read = self.x_proj(u).split((1, 2, 2), -1)
        dt = F.softplus(self.dt_proj(dt))
        y = write.transpose(1, 2).flatten(1, 2)
        read = read.transpose(1, 2).flatten(1, 2)
        dt = dt.transpose(1, 2).flatten(1, 2)
        u = u.transpose(1, 2).flatten(1, 2)
        neg = -torch.exp(self.a_log)
        y = selective_scan(u, dt, neg.transpose(0, 1), y, read, self.skip, reverse=True)
        return y2 + y.unflatten(1, (-1, self.height)).transpose(1, 2)


class Ss2d(nn.Module):
    """Selective scans of a map along its rows and columns, there and back (VMamba, Liu et al., NeurIPS 2024)."""

    def __init__(self, dim: int, height: int, inner: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 4 * dim, bias=False)
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.scans = nn.ModuleList(
            [
                Scan(height, inner=inner),
                Scan2(height, inner=inner),
                Scan3(height, inner=inner),
                Scan4(height, inner=inner),
            ],
        )
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, gate = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv(u.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        y = self.scans[0](u)
        y = self.scans[1](u, y)
        y = self.scans[2](u, y)
        y = self.scans[3](u, y)
        return self.out_proj(self.out_norm(y) * F.silu(gate))


class Block(nn.Module):
    def __init__(self, dim: int, height: int, stochastic_depth: float) -> None:
        super().__init__()
        self.stochastic_depth = stochastic_depth
        self.norm = nn.LayerNorm(dim)
        self.mixer = Ss2d(dim, height=height, inner=2 * dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + drop_path(self.mixer(self.norm(x)), self.stochastic_depth, self.training)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(8, height=4, stochastic_depth=0.0)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class PatchMerge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.reduction = nn.Linear(32, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).permute(0, 1, 3, 4, 2, 5).flatten(3)
        return self.reduction(self.norm(x))


class Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_merge = PatchMerge()
        self.blocks = nn.ModuleList([Block(16, height=2, stochastic_depth=0.2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_merge(x)
        for block in self.blocks:
            x = block(x)
        return x


class Vmamba(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed()
        self.stages = nn.ModuleList([Stage(), Stage2()])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 16, 16):
            raise ValueError(f"image must be [b, c = 3, h = 16, w = 16], and is {list(image.shape)}")
        x = self.patch_embed(image).permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))
