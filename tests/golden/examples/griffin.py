"""Griffin (De et al., arXiv:2402.19427), as RecurrentGemma: gated linear recurrences, and local attention every
third time.
"""

from collections.abc import Callable, Sequence
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


class Rms(nn.Module):
    """x / rms(x) * (1 + weight)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (8,), eps=1e-6) * (1 + self.weight)


class RgLru(nn.Module):
    """h = a h + sqrt(1 - a^2) (i x), a = exp(-8 r softplus(lambda)); the gates r and i are linear in blocks of
    channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recurrent_param = nn.Parameter(nn.init.uniform_(torch.empty(8), 0.5, 1))
        self.input_gate_weight = nn.Parameter(torch.randn(2, 4, 4) * 0.1)
        self.input_gate_bias = nn.Parameter(torch.zeros(2, 4))
        self.recurrent_gate_weight = nn.Parameter(torch.randn(2, 4, 4) * 0.1)
        self.recurrent_gate_bias = nn.Parameter(torch.zeros(2, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        device = x.device
        t = x.shape[1]
        parts = x.unflatten(-1, (2, -1))
        i = torch.einsum("btlc,lcd->btld", parts, self.input_gate_weight) + self.input_gate_bias
        i = torch.sigmoid(i).flatten(2)
        r = torch.einsum("btlc,lcd->btld", parts, self.recurrent_gate_weight) + self.recurrent_gate_bias
        r = torch.sigmoid(r).flatten(2)
        log_a = -8 * r * F.softplus(self.recurrent_param)
        first = torch.arange(t, device=device) == 0
        gamma = torch.where(first[:, None], 1, torch.sqrt(1 - torch.exp(2 * log_a)))
        log_a = linear_scan(torch.exp(log_a).transpose(0, 1), (x * i * gamma).transpose(0, 1))
        return log_a.transpose(0, 1)


class RecurrentBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear_y = nn.Linear(8, 8)
        self.linear_x = nn.Linear(8, 8)
        self.conv_1d = nn.Conv1d(8, 8, 4, groups=8)
        self.rg_lru = RgLru()
        self.linear_out = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.gelu(self.linear_y(x), approximate="tanh")
        x = self.rg_lru(self.conv_1d(F.pad(self.linear_x(x).transpose(1, 2), (3, 0))).transpose(1, 2))
        return self.linear_out(x * y)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(8, 12)
        self.up_proj = nn.Linear(8, 12)
        self.down_proj = nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Layer2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = Rms()
        self.mixer = RecurrentBlock()
        self.norm2 = Rms()
        self.mlp = Gated()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class LocalAttention2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(8, 8, bias=False)
        self.k_proj = nn.Linear(8, 4, bias=False)
        self.v_proj = nn.Linear(8, 4, bias=False)
        self.o_proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        device = x.device
        t = x.shape[1]
        turns = rotary_turns((t,), 1, dtype=dtype, device=device)
        q = turn(self.q_proj(x).unflatten(-1, (1, 2, 4)), turns, (1,))
        turns = rotary_turns((t,), 1, dtype=dtype, device=device)
        k = turn(self.k_proj(x).unflatten(-1, (1, 4)), turns, (1,))
        v = self.v_proj(x).unflatten(-1, (1, 4))
        tiles = MapTiles([AxisTiles(band_span(t, 2, 0, device=q.device), tile=16, width=18, lead=2)])
        attend = local_attention(
            q.flatten(2, 3), k.repeat_interleave(2, 2), v.repeat_interleave(2, 2), tiles, tiles.seen
        )
        return self.o_proj(attend.flatten(2))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = Rms()
        self.mixer = LocalAttention2()
        self.norm2 = Rms()
        self.mlp = Gated()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Griffin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layers = nn.ModuleList([*(Layer2() for _ in range(2)), Layer()])
        self.norm = Rms()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        x = self.embed(tokens) * 2.8284271247461903
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return torch.tanh(F.linear(x, self.embed.weight) / 30) * 30

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, (Rms, Gated)):
                module.compile(**options)
