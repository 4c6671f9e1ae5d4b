"""Jamba: A Hybrid Transformer-Mamba Language Model (Lieber et al., arXiv:2403.19887), with dense MLPs; attention in
one layer of many, and by a setting in sliding windows as in Samba (Ren et al., arXiv:2406.07522).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AxisTiles:
    """An axis in tiles of `tile` queries that are `step` apart, each beside `width` keys: those from `lead` steps
    before its first query on, or without a lead from the first that one sees. `span` holds the first and the
    last key of every position. The tiles of a residue class make a line of so many.

    queries: [tiles, tile]; keys: [tiles, width]; seen: [tiles, tile, width]; home: the tile of every position and its
    place there, [size] each.
    """

    def __init__(
        self, span: tuple[Tensor, Tensor], tile: int, width: int, step: int = 1, lead: int | None = None
    ) -> None:
        first, last = span
        self.size, self.tile, self.width, self.step, self.lead = first.shape[0], tile, width, step, lead or 0
        line = -(-self.size // (tile * step))
        if type(line) is not int:  # else an exported program serves one tile, or several
            line = torch.sym_max(line, 2)
        self.line = line
        block = torch.arange(line * step, device=first.device)[:, None]
        i = (block % line * tile + torch.arange(tile, device=first.device)) * step + block // line
        start = i[:, :1]
        self.queries = torch.where(i < self.size, i, i - step * ((i - self.size) // step + 1))
        first, last = first[self.queries], last[self.queries]
        before = (start - first.amin(1, keepdim=True)) // step if lead is None else lead
        keys = start - step * before + step * torch.arange(width, device=first.device)
        self.seen = (keys[:, None] >= first[..., None]) & (keys[:, None] <= last[..., None])
        self.keys = keys.clamp(0, self.size - 1)
        i = torch.arange(self.size, device=first.device)
        self.home = i % step * line + i // (tile * step), i // step % tile


def band_span(size: int, before: int, after: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """The first and the last position that each of an axis sees: `before` back, `after` ahead."""
    i = torch.arange(size, device=device)
    return (i - before).clamp(min=0), (i + after).clamp(max=size - 1)


def on_map(places: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """[tile, place] of a map of `sizes` from the [tile, place] along each of its axes: of positions and places the last
    axis is the fastest, of tiles the first.
    """
    index = places[0]
    for own, size in zip(places[1:], sizes[1:], strict=True):
        index = (index[:, :, None] * size + own[:, None, None]).flatten(0, 1).flatten(1)
    return index


def key_strips(near: Sequence[AxisTiles], space: Sequence[int]) -> Tensor:
    """Positions of a flattened map [row, others]: row by row along the first axis, strip after strip, those of the
    other axes that a tile needs. The keys of tile n are the `width` rows from row n * tile on; what they have of the
    next strip, nobody sees.
    """
    along, device = near[0], near[0].keys.device
    others = on_map([tiles.keys for tiles in near[1:]], space[1:]) if len(near) > 1 else along.keys.new_zeros(1, 1)
    length, count = along.line * along.tile, others.shape[0] * along.step
    row = torch.arange(count * length + along.width - along.tile, device=device) - along.lead
    strip = (row // length).clamp(0, count - 1)
    place = ((row - strip * length) * along.step + strip % along.step).clamp(0, along.size - 1)
    return place[:, None] * prod(space[1:]) + others[strip // along.step]


def over_tiles(parts: Sequence[Tensor], join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """[tiles, query, key] of each axis joined to that of all axes, in the order of `on_map`."""

    def both(a: Tensor, b: Tensor) -> Tensor:
        joined = join(a[:, :, None, :, None], b[:, None, None, :, None, :])
        return joined.flatten(0, 1).flatten(1, 2).flatten(2)

    return reduce(both, parts)


def offsets_in_tiles(near: Sequence[AxisTiles], table: Sequence[int]) -> Tensor:
    """[tile, query, key]: the row of the offset in a flattened table of so many along each axis, counted in steps from
    its middle.
    """
    places = []
    for tiles, size in zip(near, table, strict=True):
        offset = (tiles.keys[:, None] - tiles.queries[..., None]) // tiles.step + size // 2
        places.append(offset.clamp(0, size - 1))
    sizes = iter(table[1:])
    return over_tiles(places, lambda a, b: a * next(sizes) + b)


def seen_in_tiles(near: Sequence[AxisTiles], radius: int | None = None) -> Tensor:
    """Which keys the queries of a tile see, all closer than `radius`: bool [tiles, 1, 1, query, key]."""
    mask = over_tiles([tiles.seen for tiles in near], lambda a, b: a & b)
    if radius is not None:
        offsets = [tiles.queries[..., None] - tiles.keys[:, None] for tiles in near]
        mask = mask & (over_tiles([offset.square() for offset in offsets], lambda a, b: a + b) < radius**2)
    return mask[:, None, None]


class MapTiles:
    """Where the places of a map stand in tiles, by its axes: what attention to what is near needs of its sizes.

    queries: [tile, query]; strips of keys: [row, other], of which a tile takes `width`, `move` after those before it;
    home: the place of every position in all tiles; seen: bool [tile, 1, 1, query, key], all closer than `radius`;
    offsets [tile, query, key]: rows of a `table` of so many offsets along each axis.
    """

    def __init__(self, near: Sequence[AxisTiles], radius: int | None = None, table: Sequence[int] = ()) -> None:
        space, first = [tiles.size for tiles in near], near[0]
        self.queries, self.strips = on_map([tiles.queries for tiles in near], space), key_strips(near, space)
        self.width, self.move = first.width * self.strips.shape[1], first.tile * self.strips.shape[1]
        (tile, place), count = first.home, first.queries.shape[0]
        for tiles in near[1:]:
            tile = (tile[:, None] + tiles.home[0] * count).flatten()
            place, count = (place[:, None] * tiles.tile + tiles.home[1]).flatten(), count * tiles.queries.shape[0]
        self.home = tile * self.queries.shape[1] + place
        self.seen = seen_in_tiles(near, radius)
        self.offsets = offsets_in_tiles(near, table) if table else None


class FixedTiles(nn.Module):
    """`MapTiles`, made once and held: they move with the module, and are no part of its state_dict."""

    queries: Tensor
    strips: Tensor
    home: Tensor
    seen: Tensor
    offsets: Tensor | None

    def __init__(self, near: Sequence[AxisTiles], radius: int | None = None, table: Sequence[int] = ()) -> None:
        super().__init__()
        made = MapTiles(near, radius, table)
        self.width, self.move = made.width, made.move
        for name in ("queries", "strips", "home", "seen", "offsets"):
            self.register_buffer(name, getattr(made, name), persistent=False)


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, drop: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attention of q, k, v: [cells, batch, heads, places, c], cells and batch in either order; each of them may lack
    cells, batch and heads, with size 1, and a mask leading axes too.
    """
    lead, start = torch.broadcast_shapes(*(x.shape[:3] for x in (q, k, v))), 1
    if mask is not None:
        mask = mask[(None,) * (5 - mask.ndim)]
        start = 1 if mask.shape[1] == mask.shape[2] == 1 else 0
        given = mask.shape[start : start + 2]
        whole = given if given == (1, 1) else lead[start : start + 2]
        mask = mask.expand(*mask.shape[:start], *whole, *mask.shape[start + 2 :]).flatten(start, start + 1)
    q, k, v = (x.expand(*lead, *x.shape[3:]).flatten(start, start + 1) for x in (q, k, v))
    x = F.scaled_dot_product_attention(q, k, v, mask, drop, scale=scale)
    return x.view(*lead, *x.shape[2:])


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tiles: MapTiles | FixedTiles,
    mask: Tensor,
    scale: float | None = None,
    drop: float = 0.0,
    core: Callable[..., Tensor] = fused_attention,
) -> Tensor:
    """Attention of q, k, v: [batch, *map, heads, c] in tiles of the map: queries beside the keys near them. `mask` says
    what is seen or is a bias, [tiles, batch, heads, query, key]. Keys are copied in strips; those of a tile are a view.
    """
    space = q.shape[1:-2]

    def taken(x: Tensor, index: Tensor) -> Tensor:
        """[batch, *map, heads, c] -> [places, batch, heads, c]"""
        return x.flatten(1, len(space)).transpose(0, 1).index_select(0, index.flatten())

    k, v = (taken(x, tiles.strips).unfold(0, tiles.width, tiles.move).mT for x in (k, v))
    q = taken(q, tiles.queries).unflatten(0, tiles.queries.shape).permute(0, 2, 3, 1, 4)
    x = core(q, k, v, mask, drop, scale=scale).permute(0, 3, 1, 2, 4)
    out: Tensor = x.flatten(0, 1).index_select(0, tiles.home).transpose(0, 1).unflatten(1, space)
    return out


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
            torch.log(1 + torch.arange(3, dtype=torch.get_default_dtype()).expand((32, 3)).contiguous())
        )
        self.skip = nn.Parameter(torch.ones(32))
        self.in_proj = nn.Linear(16, 64, bias=False)
        self.conv = nn.Conv1d(32, 32, 4, groups=32)
        self.x_proj = nn.Linear(32, 7, bias=False)
        self.dt_norm = nn.RMSNorm(1, eps=1e-6)
        self.write_norm = nn.RMSNorm(3, eps=1e-6)
        self.read_norm = nn.RMSNorm(3, eps=1e-6)
        self.dt_proj = nn.Linear(1, 32)
        self.dt_proj.bias = nn.Parameter(torch.log(torch.expm1(0.001 * 100.0 ** torch.rand(32))))
        self.out_proj = nn.Linear(32, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u, gate = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv(F.pad(u.transpose(1, 2), (3, 0)))).transpose(1, 2)
        dt, write, read = self.x_proj(u).split((1, 3, 3), -1)
        dt = self.dt_norm(dt)
        write = self.write_norm(write)
        read = self.read_norm(read)
        dt = F.softplus(self.dt_proj(dt))
        y = selective_scan(u, dt, (-torch.exp(self.a_log)).transpose(0, 1), write, read, self.skip)
        return self.out_proj(y * F.silu(gate))


class Swiglu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 24, bias=False)
        self.up = nn.Linear(16, 24, bias=False)
        self.down = nn.Linear(24, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.silu(self.gate(x))
        return self.down(gate * self.up(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(16, eps=1e-6)
        self.mamba = Mamba()
        self.norm2 = nn.RMSNorm(16, eps=1e-6)
        self.mlp = Swiglu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mamba(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CausalAttention(nn.Module):
    """Grouped-query attention to the past with rotary positions, as in Llama (Touvron et al., 2023; Ainslie et al.,
    EMNLP 2023).
    """

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(16, 16, bias=False)
        self.k_proj = nn.Linear(16, 8, bias=False)
        self.v_proj = nn.Linear(16, 8, bias=False)
        self.o_proj = nn.Linear(16, 16, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = x.shape[1]
        q = self.q_proj(x).unflatten(-1, (2, 2, 4))
        k = self.k_proj(x).unflatten(-1, (2, 4))
        v = self.v_proj(x).unflatten(-1, (2, 4))
        tiles = MapTiles([AxisTiles(band_span(t, 3, 0, device=q.device), tile=16, width=19, lead=3)])
        o = local_attention(q.flatten(2, 3), k.repeat_interleave(2, 2), v.repeat_interleave(2, 2), tiles, tiles.seen)
        return self.o_proj(o.flatten(2))


class Layer2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(16, eps=1e-6)
        self.attn = CausalAttention()
        self.norm2 = nn.RMSNorm(16, eps=1e-6)
        self.mlp = Swiglu()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Jamba(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(32, 16)
        self.layers = nn.ModuleList([Layer(), Layer2(), Layer()])
        self.norm = nn.RMSNorm(16, eps=1e-6)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.norm(x), self.embed.weight)

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Swiglu):
                module.compile(**options)
