"""gpt-oss (OpenAI, arXiv:2508.10925): grouped queries with a learned sink in each head, every second layer in a
sliding window, and experts of clamped SwiGLU.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from math import ceil, floor, log, pi, prod
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


def combine(parts: Sequence[torch.Tensor], order: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What the experts made of their tokens, from `order` back to the tokens and summed with weight [..., k]."""
    rows, last = torch.cat(list(parts)), weight.ndim - 1
    choices = rows.new_zeros(weight.numel(), *rows.shape[1:]).index_copy(0, order[: rows.shape[0]], rows)
    weight = weight.to(rows.dtype)[(..., *[None] * (rows.ndim - 1))]
    return (choices.view(*weight.shape[: last + 1], *rows.shape[1:]) * weight).sum(last)


def dispatch(x: torch.Tensor, index: torch.Tensor, experts: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """The tokens of x [..., *rest] that each expert is chosen for by index [..., k], and the places of these among all
    choices. An index of `experts` is for nobody.
    """
    choices = index.flatten()
    order = choices.argsort(stable=True)
    counts = choices.new_zeros(experts + 1).scatter_add(0, choices, torch.ones_like(choices))
    tokens = x.flatten(0, index.ndim - 2)[order // index.shape[-1]]
    return torch.split(tokens, counts.tolist())[:experts], order


def load_balance(probability: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The balance loss of experts with probability [..., experts] that index [..., k] chooses among."""
    experts, tokens = probability.shape[-1], probability.flatten(0, -2)
    choices = index.flatten()
    chosen = tokens.new_zeros(experts).scatter_add(0, choices, torch.ones_like(choices, dtype=tokens.dtype))
    return experts * (chosen / tokens.shape[0] * tokens.mean(0)).sum()


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


class Losses(dict[str, torch.Tensor]):
    """Auxiliary losses by name, one value for each place of the network; copies and saved modules go without them."""

    def __deepcopy__(self, memo: object) -> "Losses":
        return Losses()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Losses, ()


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


def yarn_speeds(
    pairs: int,
    base: float,
    factor: float,
    original: int,
    fast: float,
    slow: float,
    truncate: bool = True,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """base^(-i / pairs) for pairs that turn more than `fast` times in `original` positions, a `factor`-th of it for
    those that turn less than `slow` times, and along a ramp over i for the others, between whole i with `truncate`.
    """
    exact = torch.promote_types(dtype, torch.float32)
    pair = torch.arange(pairs, dtype=exact, device=device)
    first, last = (pairs * log(original / (turns * 2 * pi)) / log(base) for turns in (fast, slow))
    if truncate:
        first, last = floor(first), ceil(last)
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    kept = 1 - ((pair - first) / max(last - first, 1e-3)).clamp(0, 1)
    return 1.0 / base ** (pair / pairs) * (kept + (1 - kept) / factor)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sinks = nn.Parameter(torch.randn(2, 2) * 0.02)
        self.q_proj = nn.Linear(8, 16)
        self.k_proj = nn.Linear(8, 8)
        self.v_proj = nn.Linear(8, 8)
        self.o_proj = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = x.shape[1]
        q = self.q_proj(x).unflatten(-1, (2, 2, 4))
        k = self.k_proj(x).unflatten(-1, (2, 4))
        v = self.v_proj(x).unflatten(-1, (2, 4))
        turns = rotary_turns(
            (t,),
            2,
            speeds=yarn_speeds(2, 150000.0, 32.0, 4096, 32.0, 1.0, truncate=False, dtype=q.dtype, device=q.device),
            gain=1.3465735902799727,
            dtype=q.dtype,
            device=q.device,
        )
        turns2 = rotary_turns(
            (t,),
            2,
            speeds=yarn_speeds(2, 150000.0, 32.0, 4096, 32.0, 1.0, truncate=False, dtype=k.dtype, device=k.device),
            gain=1.3465735902799727,
            dtype=k.dtype,
            device=k.device,
        )
        k = turn(k, turns2, (1,))
        q = turn(q, turns, (1,))
        tiles = MapTiles([AxisTiles(band_span(t, 2, 0, device=v.device), tile=16, width=18, lead=2)])
        o = local_attention(
            q.flatten(2, 3),
            k.repeat_interleave(2, 2),
            v.repeat_interleave(2, 2),
            tiles,
            tiles.seen,
            core=partial(scored_attention, sink=self.sinks.flatten(0)[:, None, None]),
        )
        return self.o_proj(o.flatten(2))


class TopLogits(nn.Module):
    """The `top` experts of largest logits, weighted by a softmax over these alone."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self.gate(x)
        index, best = logits.topk(2, -1)[::-1]
        return index, best.softmax(-1), load_balance(logits.softmax(-1), index)


class ClampedSwiglu(nn.Module):
    """(up + 1) gate sigmoid(slope gate), the gate no larger than `limit` and up within it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up = nn.Linear(8, 24)
        self.down = nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = self.gate_up(x).unflatten(-1, (12, 2))
        gate, up = both.unbind(-1)
        gate = gate.clamp(max=7)
        up = up.clamp(min=-7, max=7)
        return self.down((up + 1) * gate * torch.sigmoid(1.702 * gate))


class Moe(nn.Module):
    """sum over the chosen experts e of weight[e] * expert_e(x), and shared(x) (Shazeer et al., ICLR 2017).

    Dropless, unless `capacity` lets each expert take only so many times its even share of a sample's tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.router = TopLogits()
        self.experts = nn.ModuleList(ClampedSwiglu() for _ in range(4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        index, weight, balance = self.router(x)
        parts, order = dispatch(x, index, 4)
        experts = [expert(part) for expert, part in zip(self.experts, parts)]
        return combine(experts, order, weight), balance


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(8, eps=1e-5)
        self.attn = Attention()
        self.norm2 = nn.RMSNorm(8, eps=1e-5)
        self.moe = Moe()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x + self.attn(self.norm1(x))
        moe, balance = self.moe(self.norm2(x))
        return x + moe, balance


class Attention2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sinks = nn.Parameter(torch.randn(2, 2) * 0.02)
        self.q_proj = nn.Linear(8, 16)
        self.k_proj = nn.Linear(8, 8)
        self.v_proj = nn.Linear(8, 8)
        self.o_proj = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = x.shape[1]
        q = self.q_proj(x).unflatten(-1, (2, 2, 4))
        k = self.k_proj(x).unflatten(-1, (2, 4))
        v = self.v_proj(x).unflatten(-1, (2, 4))
        turns = rotary_turns(
            (t,),
            2,
            speeds=yarn_speeds(2, 150000.0, 32.0, 4096, 32.0, 1.0, truncate=False, dtype=q.dtype, device=q.device),
            gain=1.3465735902799727,
            dtype=q.dtype,
            device=q.device,
        )
        turns2 = rotary_turns(
            (t,),
            2,
            speeds=yarn_speeds(2, 150000.0, 32.0, 4096, 32.0, 1.0, truncate=False, dtype=k.dtype, device=k.device),
            gain=1.3465735902799727,
            dtype=k.dtype,
            device=k.device,
        )
        k = turn(k, turns2, (1,))
        q = turn(q, turns, (1,))
        mask = torch.ones(t, t, dtype=torch.bool, device=v.device).tril()
        o = scored_attention(
            q.flatten(2, 3).transpose(1, 2),
            k.repeat_interleave(2, 2).transpose(1, 2),
            v.repeat_interleave(2, 2).transpose(1, 2),
            mask=mask,
            sink=self.sinks.flatten(0)[:, None, None],
        )
        return self.o_proj(o.transpose(1, 2).flatten(2))


class Layer2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(8, eps=1e-5)
        self.attn = Attention2()
        self.norm2 = nn.RMSNorm(8, eps=1e-5)
        self.moe = Moe()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = x + self.attn(self.norm1(x))
        moe, balance = self.moe(self.norm2(x))
        return x + moe, balance


class GptOss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.losses = Losses()
        self.embed = nn.Embedding(20, 8)
        self.layers = nn.ModuleList(module for _ in range(2) for module in (Layer(), Layer2()))
        self.norm = nn.RMSNorm(8, eps=1e-5)
        self.head = nn.Linear(8, 20, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be int[b, t], and is {list(tokens.shape)}")
        x = self.embed(tokens)
        balances = []
        for layer in self.layers:
            x, balance = layer(x)
            balances.append(balance)
        if self.training:
            self.losses = Losses({"balance": torch.stack(balances)})
        return self.head(self.norm(x))

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks that repeat, alike ones once. The options are those of `torch.compile`."""
        for module in self.modules():
            if isinstance(module, Moe):
                module.compile(**options)
