"""MossFormer: gated single-head attention with convolutions, for separating speakers (Zhao and Ma, ICASSP 2023)."""

from collections.abc import Callable, Sequence
from functools import partial, reduce
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


def chunk_span(
    size: int, chunk: int, causal: bool = False, start: int = 0, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The first and the last position of the block of each of an axis; up to itself where it is causal. A block begins
    at `start`.
    """
    i = torch.arange(size, device=device)
    first = i - (i - start) % chunk
    return first.clamp(min=0), i if causal else (first + chunk - 1).clamp(max=size - 1)


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


def relu_score(logits: Tensor, power: int = 1, count: int = 1) -> Tensor:
    """relu(logits)^power / count"""
    weights = logits.relu()
    return (weights if power == 1 else weights**power) / count


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


def scored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    drop: float = 0.0,
    scale: float | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
    logit_mix: Tensor | None = None,
    weight_mix: Tensor | None = None,
) -> Tensor:
    """score(cap * tanh(scale * q k^T / cap) + bias) v over [.., heads, places, c]: softmax where no score is given.
    `mask` is a bool or the bias; `sink` [heads, 1, 1] is one more logit to be divided by; the mixes [heads, heads] are
    applied to logits and weights.
    """
    logits = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if cap is not None:
        logits = cap * (logits / cap).tanh()
    if logit_mix is not None:
        logits = (logits.movedim(-3, -1) @ logit_mix).movedim(-1, -3)
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask
    if score is not None:
        weights = score(logits)
    else:
        top = logits.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(logits.dtype).min)
        top = top if sink is None else top.maximum(sink.detach())
        weights = (logits - top).exp()
        total = weights.sum(-1, keepdim=True)
        weights = weights / (total + (total == 0) if sink is None else total + (sink - top).exp())
    if weight_mix is not None:
        weights = (weights.movedim(-3, -1) @ weight_mix).movedim(-1, -3)
    return (torch.dropout(weights, drop, True) if drop > 0 else weights) @ v


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


class ScaleNorm(nn.Module):
    """x / |x| * sqrt(c), scaled by one weight (Nguyen and Salazar, 2019)."""

    def __init__(self, mul: float) -> None:
        super().__init__()
        self.mul = mul
        self.g = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(x, dim=-1) * self.mul * self.g


class ConvUnit(nn.Module):
    """A linear map, to which a depthwise convolution of it along the sequence is added (FFConvM)."""

    def __init__(self, dim: int, units: int, mul: float) -> None:
        super().__init__()
        self.norm = ScaleNorm(mul)
        self.linear = nn.Linear(dim, units)
        self.conv = nn.Conv1d(units, units, 17, padding=8, groups=units, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.silu(self.linear(self.norm(x))).transpose(1, 2)
        return (y + self.conv(y)).transpose(1, 2)


class JointAttention(nn.Module):
    """Squared rectified attention in chunks plus linear attention over all positions, from four affine copies of
    one map; its two results gate each other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to_hidden = ConvUnit(8, units=32, mul=2.8284271247461903)
        self.to_qk = ConvUnit(8, units=6, mul=2.8284271247461903)
        self.gamma = nn.Parameter(torch.randn(4, 6) * 0.02)
        self.beta = nn.Parameter(torch.zeros(4, 6))
        self.to_out = ConvUnit(16, units=8, mul=4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        device = x.device
        n = x.shape[1]
        moved, kept = x.split((4, 4), -1)
        y = torch.cat((F.pad(moved[:, :-1], (0, 0, 1, 0)), kept), -1)
        values = self.to_hidden(y)
        base = self.to_qk(y)
        copies = base * self.gamma[:, None, None] + self.beta[:, None, None]
        turns = rotary_turns((n,), 2, dtype=dtype, device=device)
        copies = turn(copies, turns, (2,), interleaved=True)
        q, far, k, memory = copies.unbind(0)
        tiles = MapTiles([AxisTiles(chunk_span(n, 4, device=q.device), tile=4, width=4, lead=0)])
        near = local_attention(
            q[:, :, None],
            k[:, :, None],
            values[:, :, None],
            tiles,
            tiles.seen,
            scale=0.25,
            core=partial(scored_attention, score=partial(relu_score, power=2)),
        ).squeeze(2)
        memory = torch.einsum("bnk,bnc->bkc", memory, values) / n
        far = far @ memory
        v, u = values.chunk(2, -1)
        seen_v, seen_u = (near + far).chunk(2, -1)
        return x + self.to_out(seen_u * v * torch.sigmoid(seen_v * u))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.joint_attention = JointAttention()

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.joint_attention(y)


class Mossformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, 8, 4, stride=2, bias=False)
        self.norm = nn.GroupNorm(1, 8)
        self.bottleneck = nn.Linear(8, 8, bias=False)
        self.place_scale = nn.Parameter(torch.ones(()))
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.out_norm = nn.LayerNorm(8)
        self.act = nn.PReLU(1)
        self.split_up = nn.Linear(8, 16)
        self.value = nn.Linear(8, 8)
        self.gate = nn.Linear(8, 8)
        self.decode = nn.Linear(8, 8, bias=False)
        self.decoder = nn.ConvTranspose1d(8, 1, 4, stride=2, bias=False)

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        if mixture.ndim != 2:
            raise ValueError(f"mixture must be [b, n], and is {list(mixture.shape)}")
        n = mixture.shape[-1]
        if n < 4:
            raise ValueError(f"a window of `conv` fits in `n`: n >= 4 must hold, and n = {n}")
        if n % 2 != 0:
            raise ValueError(f"n must be a multiple of 2, and n = {n}")
        features = F.relu(self.encoder(mixture[:, None]))
        x = self.bottleneck(self.norm(features).transpose(1, 2))
        y = x + sinusoid(n // 2 - 1, 8, dtype=x.dtype, device=x.device) * self.place_scale
        for block in self.blocks:
            y = block(y)
        x = x + self.out_norm(y)
        parts = self.split_up(self.act(x)).unflatten(-1, (2, 8))
        gated = torch.tanh(self.value(parts)) * torch.sigmoid(self.gate(parts))
        masks = F.relu(self.decode(gated)).permute(0, 2, 3, 1)
        voices = self.decoder((features[:, None] * masks).flatten(0, 1)).unflatten(0, (-1, 2))
        return voices[:, :, 0]

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, ScaleNorm):
                module.compile(**options)
