"""Llama 3 and 3.1 (Grattafiori et al., arXiv:2407.21783): RMSNorm, rotary positions, grouped queries, SwiGLU."""
# Made by archlang VERSION from llama.arch (sha256 615bb908a68c1668): llama/toy for decoding

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def past_mask(
    queries: int,
    keys: int,
    device: torch.device,
    reach: int | None = None,
    step: int = 1,
    chunk: int | None = None,
    past: int = 0,
) -> Tensor:
    """bool [query, key] for queries that end at the same position as the keys: keys no later than the query, nearer
    than `reach`, `step` apart, or in its own block of `chunk` positions, where `past` came before the queries.
    """
    place = torch.arange(queries, device=device)[:, None]
    back = place + (keys - queries) - torch.arange(keys, device=device)
    seen = back >= 0
    if reach is not None:
        seen = seen & (back < reach)
    if step > 1:
        seen = seen & (back % step == 0)
    return seen if chunk is None else seen & (back <= (place + past) % chunk)


def past_attention(q: Tensor, k: Tensor, v: Tensor, reach: int | None = None, scale: float | None = None) -> Tensor:
    """softmax(scale * q k^T) v over [batch, heads, places, c], of queries that end at the same position as the keys:
    each sees its own position and those before, as far as `reach`. Keys and values may have fewer heads, each of which
    serves a group of those of queries.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    if queries == 1:  # it sees all, and so does its group
        rows = q.reshape(*k.shape[:-2], -1, q.shape[-1])
        return F.scaled_dot_product_attention(rows, k, v, scale=scale).reshape(*q.shape[:-1], v.shape[-1])
    grouped = q.shape[-3] != k.shape[-3]
    if queries == keys and (reach is None or queries <= reach):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
    if reach is not None and queries > 2 * reach and not torch.compiler.is_compiling():  # in linear time and memory
        outputs = []
        for at in range(0, queries, reach):
            first, last = at + keys - queries, min(at + reach, queries) + keys - queries
            near = slice(max(0, first - reach + 1), last)
            outputs.append(past_attention(q[..., at : at + reach, :], k[..., near, :], v[..., near, :], reach, scale))
        return torch.cat(outputs, -2)
    mask = past_mask(queries, keys, q.device, reach)
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=grouped)


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


def wide(x: Any) -> Any:
    """A tensor, or a layer, in float32 at least: what is made of it is rounded once."""
    if isinstance(x, nn.Module):
        exact = all(wide(weight).dtype == weight.dtype for weight in x.parameters())
        return x if exact else deepcopy(x).float()
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


class CausalAttention(Folded):
    """Grouped-query attention to the past with rotary positions, as in Llama (Touvron et al., 2023; Ainslie et al.,
    EMNLP 2023).
    """

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(32, 32, bias=False)
        self.k_proj = nn.Linear(32, 16, bias=False)
        self.v_proj = nn.Linear(32, 16, bias=False)
        self.o_proj = nn.Linear(32, 32, bias=False)
        self.register_buffer("q_proj_k_proj_v_proj_weight", None, persistent=False)
        self.keys = PastCache(None, 2, None, 8)
        self.values = PastCache(None, 2, None, 8)
        self.derive_from(self.k_proj, self.q_proj, self.v_proj)

    @torch.no_grad()
    def derive(self) -> None:
        dtype = self.q_proj.weight.dtype
        q_proj_k_proj_v_proj_weight = wide(self.q_proj.weight)
        k_proj = wide(self.k_proj.weight)
        v_proj = wide(self.v_proj.weight)
        q_proj_k_proj_v_proj_weight = torch.cat((q_proj_k_proj_v_proj_weight, k_proj, v_proj), 0)
        self.q_proj_k_proj_v_proj_weight = q_proj_k_proj_v_proj_weight.to(dtype)

    def forward(self, x: torch.Tensor, turns: torch.Tensor, past: int) -> torch.Tensor:
        q_proj_k_proj_v_proj = F.linear(x, self.q_proj_k_proj_v_proj_weight)
        q_proj, k_proj, v_proj = q_proj_k_proj_v_proj.split((32, 16, 16), -1)
        q = q_proj.unflatten(-1, (2, 2, 8))
        k = k_proj.unflatten(-1, (2, 8))
        v = v_proj.unflatten(-1, (2, 8))
        keys = self.keys(turn(k, turns, (1,)).transpose(1, 2), past)
        values = self.values(v.transpose(1, 2), past)
        o = past_attention(turn(q, turns, (1,)).flatten(2, 3).transpose(1, 2), keys, values)
        return self.o_proj(o.transpose(1, 2).flatten(2))


class Swiglu(Folded):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 48, bias=False)
        self.up = nn.Linear(32, 48, bias=False)
        self.down = nn.Linear(48, 32, bias=False)
        self.register_buffer("gate_up_weight", None, persistent=False)
        self.derive_from(self.gate, self.up)

    @torch.no_grad()
    def derive(self) -> None:
        dtype = self.gate.weight.dtype
        self.gate_up_weight = torch.cat((wide(self.gate.weight), wide(self.up.weight)), 0).to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate_up = F.linear(x, self.gate_up_weight)
        gate, up = gate_up.split((48, 48), -1)
        gate = F.silu(gate)
        return self.down(gate * up)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(32, eps=1e-5)
        self.attn = CausalAttention()
        self.norm2 = nn.RMSNorm(32, eps=1e-5)
        self.mlp = Swiglu()

    def forward(self, x: torch.Tensor, turns: torch.Tensor, past: int) -> torch.Tensor:
        x = x + self.attn(self.norm1(x), turns, past)
        return x + self.mlp(self.norm2(x))


class Llama(Resumable):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, 32)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.RMSNorm(32, eps=1e-5)
        self.head = nn.Linear(32, 128, bias=False)
        self.requires_grad_(False).eval()
        self.reset()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        device = tokens.device
        b, t = tokens.shape
        past = self.begin(b)
        turns = rotary_turns((t,), 4, dtype=self.embed.weight.dtype, device=device, past=past)
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, turns, past)
        x = self.norm(x)
        logits = self.head(x)
        self.end(b, past + t)
        return logits
