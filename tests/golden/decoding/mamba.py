"""Mamba: Linear-Time Sequence Modeling with Selective State Spaces (Gu and Dao, arXiv:2312.00752)."""
# Made by archlang VERSION from mamba.arch (sha256 0d7b0b5d90850e55): mamba_lm/mamba_130m depth=2 dim=16 state=4 vocab=32 for decoding

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CarriedState(nn.Module):
    """A tensor that one call leaves to the next: it moves with the network, and is no part of the `state_dict`. `shape`
    has None for what may have any size; the first axis is that of the samples. Of `pace` positions of the network, one
    comes here.
    """

    def __init__(self, *shape: int | None, pace: int = 1) -> None:
        super().__init__()
        self.shape, self.pace = shape, pace
        self.held: Tensor | None = None  # after the last call that came to its end
        self.made: Tensor | None = None  # by the call at hand

    def reset(self) -> None:
        """Nothing was seen."""
        self.held = self.made = None

    def keep(self, value: Tensor) -> Tensor:
        """Leave a value to the next call; returns it."""
        self.made = value
        return value

    def settle(self) -> None:
        """The call at hand has come to its end."""
        self.held, self.made = self.made, None

    def saved(self, past: int) -> Tensor | None:
        """What there is after so many positions."""
        return self.held

    def shape_after(self, past: int) -> tuple[int | None, ...]:
        """The shape of that."""
        return self.shape

    def check(self, name: str, value: Tensor, samples: int, past: int) -> None:
        """Refuse a value of another shape."""
        shape = [samples, *self.shape_after(past)[1:]]
        if len(shape) != value.ndim or any(
            size not in (None, own) for size, own in zip(shape, value.shape, strict=True)
        ):
            raise ValueError(
                f"{name} must be {shape} for {samples} samples after {past} positions, not {list(value.shape)}"
            )

    def select(self, samples: Tensor) -> None:
        """Other samples, in this order."""
        self.held = None if self.held is None else self.held.index_select(0, samples.to(self.held.device))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.held = None if self.held is None else fn(self.held)
        apply: Callable[..., Any] = super()._apply
        apply(fn, recurse)
        return self


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    dilation: int = 1,
    silu: bool = False,
    before: Tensor | None = None,
) -> Tensor:
    """y[t] = bias + sum over k of weight[:, 0, k] x[t - (kernel - 1 - k) dilation], then silu if asked for, for x
    [.., t, c] and the weight [c, 1, kernel]. The positions `before` the first are [.., (kernel - 1) dilation, c], or 0.
    """
    reach = (weight.shape[-1] - 1) * dilation
    seen = F.pad(x, (0, 0, reach, 0)) if before is None else torch.cat([before, x], -2)
    line = seen.reshape(-1, 1, *seen.shape[-2:]).permute(0, 3, 1, 2)  # a map one row high: its channels may be last
    y = F.conv2d(line, weight.unsqueeze(2), bias, dilation=(1, dilation), groups=x.shape[-1])
    y = y.permute(0, 2, 3, 1).reshape(x.shape)
    return F.silu(y) if silu else y


class Folded(nn.Module):
    """A module that only evaluates. `derive` works out what its weights determine: when it is made, and whenever they
    are loaded, moved or cast. Call `fold` after changing weights by hand.
    """

    def derive_from(self, *modules: nn.Module) -> None:
        """Derive, now and when the weights of these modules, or of this one, are loaded."""
        self.sources = modules
        for module in (*modules, self):
            register: Callable[..., Any] = module.register_load_state_dict_post_hook
            register(partial(_loaded, self))
        self.derive()

    def derive(self) -> None:
        """Nothing, in a module whose weights are used as they are."""

    def fold(self) -> None:
        """Derive again, here and in all modules below."""
        for module in reversed(list(self.modules())):
            if isinstance(module, Folded):
                module.derive()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation, as a part of what trains, too."""
        return super().train(False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        apply: Callable[..., Any] = super()._apply
        apply(fn, recurse)
        self.derive()
        return self


def _loaded(folded: Folded, module: nn.Module, keys: Any) -> None:
    """Derive, once all that is read is in one place."""
    places = {weight.device for source in folded.sources for weight in source.parameters()}
    if module is folded or len(places) == 1:
        folded.derive()


class PastTail(CarriedState):
    """The last positions along an axis, as many as the shape has; zeros before the first one."""

    def forward(self, x: Tensor, axis: int) -> Tensor:
        """x behind those before it."""
        return torch.cat((self.before(x, axis), x), axis)

    def before(self, x: Tensor, axis: int) -> Tensor:
        """Those before x."""
        count = self.shape[axis] or 0
        sizes = [count if place == axis % x.ndim else size for place, size in enumerate(x.shape)]
        before = x.new_zeros(sizes) if self.held is None else self.held
        seen = torch.cat((before, x.narrow(axis, max(0, x.shape[axis] - count), min(count, x.shape[axis]))), axis)
        self.keep(seen.narrow(axis, seen.shape[axis] - count, count).contiguous())
        return before


class PastCache(CarriedState):
    """The keys, or values, of all positions so far [.., t, c]. Where room ends, half as much again is made."""

    capacity = 0  # positions that there is room for from the start

    def forward(self, x: Tensor, past: int) -> Tensor:
        """Those of `past` positions, and x behind them."""
        size = past + x.shape[-2]
        if past == 0 or self.held is None or self.held.shape[-2] < size:
            self.held = self.grown(x, past, size)
        self.held[..., past:size, :] = x
        return self.held[..., :size, :]

    def grown(self, x: Tensor, past: int, size: int) -> Tensor:
        """What was held, with more room."""
        count = self.capacity if size <= self.capacity else size + size // 2 + 16
        room = x.new_empty(*x.shape[:-2], count, x.shape[-1])
        if past > 0 and self.held is not None:
            room[..., :past, :] = self.held[..., :past, :]
        return room

    def settle(self) -> None:
        """What is behind the positions that the model counts is written again."""

    def saved(self, past: int) -> Tensor | None:
        return None if self.held is None else self.held[..., : past // self.pace, :]

    def shape_after(self, past: int) -> tuple[int | None, ...]:
        return (*self.shape[:-2], past // self.pace, *self.shape[-1:])


class Resumable(Folded):
    """A network that evaluates a sequence in pieces: each call goes on where the last one stopped, and one that fails
    leaves the state as it was.
    """

    def reset(self, capacity: int = 0) -> None:
        """Start a new sequence, of any number of samples. Caches have room for `capacity` positions at once."""
        self.carried = {name: module for name, module in self.named_modules() if isinstance(module, CarriedState)}
        self.clock = torch.empty(0, 0, 0)  # [samples, past, 0]: numbers of a module are constants to compilers
        for module in self.carried.values():
            module.reset()
            if isinstance(module, PastCache):
                module.capacity = capacity

    @property
    def past(self) -> int:
        """How many positions were seen."""
        return self.clock.shape[1]

    def begin(self, samples: int) -> int:
        """How many positions came before the call at hand."""
        held, past, _ = self.clock.shape
        if past > 0 and held != samples:
            raise ValueError(f"the sequence has {held} samples, and this call {samples}; reset() starts a new one")
        return past

    def end(self, samples: int, past: int) -> None:
        """The call at hand has come to its end: so many positions were seen."""
        self.clock = torch.empty(samples, past, 0)
        for module in self.carried.values():
            module.settle()

    def state(self) -> dict[str, Tensor]:
        """All that the next call needs of those before, by name, to be saved and loaded; `past` of every sample is how
        many positions were seen.
        """
        kept = {name: module.saved(self.past) for name, module in self.carried.items()} if self.past else {}
        parts = {
            name: x.detach().clone(memory_format=torch.contiguous_format) for name, x in kept.items() if x is not None
        }
        return {"past": torch.full(self.clock.shape[:1], self.past), **parts}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, here or in another network that is the same."""
        parts = {name: value for name, value in state.items() if name != "past"}
        if "past" not in state:
            raise ValueError("this is no state of a network: `past`, the number of positions seen, is missing")
        samples, past = len(state["past"]), int(state["past"].max()) if len(state["past"]) else 0
        wanted = self.carried if past else {}
        if wanted.keys() != parts.keys():
            lacking, other = (
                ", ".join(sorted(a - b)) for a, b in ((wanted.keys(), parts.keys()), (parts.keys(), wanted.keys()))
            )
            raise ValueError(
                f"the state is of another network: it lacks {lacking or 'nothing'}, and has {other or 'no other'}"
            )
        for name, value in parts.items():
            self.carried[name].check(name, value, samples, past)
        self.clock = torch.empty(samples, past, 0)
        for name, module in self.carried.items():
            module.reset()
            module.held = parts[name].detach().clone() if name in parts else None

    def select(self, samples: Tensor) -> None:
        """Go on with these samples in this order, each as often as it stands there: what a beam search keeps."""
        for module in self.carried.values():
            module.select(samples)
        self.clock = torch.empty(len(samples), self.past, 0)


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


def resumed_selective_scan(
    last: CarriedState,
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None = None,
    start: Tensor | None = None,
    core: Callable[..., Any] | None = None,
) -> Tensor:
    """`selective_scan` from the state [.., n, channels] that was `last`, at first from `start`, or from 0; the state is
    held in float32 at least. Without a `core` that takes any number of positions, a single one is a plain step.
    """
    kind = torch.promote_types(u.dtype, torch.float32)
    start = start if last.held is None else last.held
    start = u.new_zeros(*u.shape[:-2], *a.shape, dtype=kind) if start is None else start.to(kind)
    if core is not None or u.shape[-2] > 1:
        y, state = (core or selective_scan)(u, dt, a, b, c, skip, start=start, final=True)
        last.keep(state)
        return y
    now, step, write, read = (x.to(kind) for x in (u, dt, b, c))
    state = torch.addcmul(write.mT * (step * now), (step * a.to(kind)).exp(), start)
    last.keep(state)
    y = (read @ state).to(u.dtype)
    return y if skip is None else torch.addcmul(y, skip, u)


def wide(x: Any) -> Any:
    """A tensor, or a layer, in float32 at least: what is made of it is rounded once."""
    if isinstance(x, nn.Module):
        exact = all(wide(weight).dtype == weight.dtype for weight in x.parameters())
        return x if exact else deepcopy(x).float()
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


class Mamba(Folded):
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
        self.register_buffer("y", None, persistent=False)
        self.tail = PastTail(None, 3, 32)
        self.last = CarriedState(None, 4, 32)
        self.derive_from()

    @torch.no_grad()
    def derive(self) -> None:
        dtype = self.a_log.dtype
        a_log = wide(self.a_log)
        self.y = (-torch.exp(a_log)).to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, gate = self.in_proj(x).chunk(2, -1)
        u = F.silu(causal_conv(u, self.conv.weight, self.conv.bias, before=self.tail.before(u, 1)))
        dt, write, read = self.x_proj(u).split((1, 4, 4), -1)
        dt = F.softplus(self.dt_proj(dt))
        y = resumed_selective_scan(self.last, u, dt, self.y.transpose(0, 1), write, read, self.skip)
        return self.out_proj(y * F.silu(gate))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(16, eps=1e-5)
        self.mixer = Mamba()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mixer(self.norm(x))


class MambaLm(Resumable):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 16)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.RMSNorm(16, eps=1e-5)
        self.requires_grad_(False).eval()
        self.reset()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        b, t = tokens.shape
        past = self.begin(b)
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        logits = F.linear(self.norm(x), self.embed.weight)
        self.end(b, past + t)
        return logits
