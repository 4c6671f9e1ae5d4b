# Made by archlang 0.1.0 from neighborhood.arch (sha256 9ce8d62340d51aaa): net

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial, reduce
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Captured:
    """A module that evaluates inputs of fixed shapes as one CUDA graph: a single launch, and nothing in Python between
    its operations. What a call returns is overwritten by the next one; weights may change in place.
    """

    def __init__(self, module: nn.Module, inputs: Sequence[Tensor]) -> None:
        if not inputs or not all(x.is_cuda for x in inputs):
            raise RuntimeError("a CUDA graph is captured from inputs on a CUDA device")
        self.inputs, self.graph, aside = (
            [x.detach().clone() for x in inputs],
            torch.cuda.CUDAGraph(),
            torch.cuda.Stream(),
        )
        aside.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(aside):
            for _ in range(3):  # what is compiled at the first call is no part of the graph
                module(*self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.outputs = module(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Any:
        for held, given in zip(self.inputs, inputs, strict=True):
            if held.shape != given.shape or held.dtype != given.dtype:
                raise ValueError(
                    f"the graph takes {held.dtype} of {list(held.shape)}, not {given.dtype} of {list(given.shape)}"
                )
            held.copy_(given)
        self.graph.replay()
        return self.outputs


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


def chunk_span(
    size: int, chunk: int, causal: bool = False, start: int = 0, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The first and the last position of the block of each of an axis; up to itself where it is causal. A block begins
    at `start`.
    """
    i = torch.arange(size, device=device)
    first = i - (i - start) % chunk
    return first.clamp(min=0), i if causal else (first + chunk - 1).clamp(max=size - 1)


def neighbor_span(
    size: int, count: int, dilation: int = 1, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The first and the last of the `count` positions nearest to each of an axis, `dilation` apart; at a border they
    move inwards.
    """
    i = torch.arange(size, device=device)
    end = size - 1 - (size - 1 - i % dilation) % dilation  # the last position of the same residue class
    span = (count - 1) * dilation
    first = (i - count // 2 * dilation).maximum(i % dilation).minimum(end - span)
    return first, first + span


def span_overlap(*spans: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The spans from the latest of the first positions to the earliest of the last."""
    firsts, lasts = zip(*spans, strict=True)
    return torch.stack(firsts).amax(0), torch.stack(lasts).amin(0)


class NearAxis(NamedTuple):
    """A position of an axis sees those that are `before` it and `after` it, in its block of `chunk` positions counted
    from `start`, and among the so many `nearest`, all of them `step` apart; what is None bounds nothing. In PyTorch
    `tile` queries stand beside `width` keys, from `lead` steps before them on.
    """

    tile: int
    width: int
    lead: int | None = None
    step: int = 1
    before: int | None = None
    after: int | None = None
    chunk: int | None = None
    start: int = 0
    nearest: int | None = None

    def tiles(self, size: int, device: torch.device) -> AxisTiles:
        """An axis in tiles."""
        before, after = (size - 1 if side is None else side for side in (self.before, self.after))
        spans = [band_span(size, before, after, device)]
        if self.chunk is not None:
            spans.append(chunk_span(size, self.chunk, False, self.start, device))
        if self.nearest is not None:
            spans.append(neighbor_span(size, self.nearest, self.step, device))
        return AxisTiles(span_overlap(*spans), self.tile, self.width, self.step, self.lead)

    def bounds(self, size: int) -> list[int]:
        """step, before and after in steps, chunk, start, count: numbers that bound nothing in place of None."""
        before, after = (size if side is None else side // self.step for side in (self.before, self.after))
        chunk = size if self.chunk is None else self.chunk
        return [self.step, before, after, chunk, self.start % chunk, size if self.nearest is None else self.nearest]

    def most(self, size: int) -> int:
        """The largest offset from a position to one that it sees, in steps."""
        step, before, after, chunk, _, count = self.bounds(size)
        return min(max(before, after), (chunk - 1) // step, count - 1, (size - 1) // step)


def tile(size: int, least: int = 16) -> int:
    """The power of 2 that holds a size: tiles of matrix products have 16 rows at least."""
    return max(least, 1 << (size - 1).bit_length())


try:
    import triton
    from triton import language as tl
except ImportError:  # the PyTorch forms run
    triton = tl = None

# In Triton's interpreter (TRITON_INTERPRET=1) kernels run on tensors of any device, step by step.
INTERPRETED = triton is not None and triton.knobs.runtime.interpret


def jit(kernel: Callable[..., Any]) -> Any:
    """Compile a kernel when it is first called."""
    return kernel if triton is None else triton.jit(kernel)


def operation(function: Callable[..., Any]) -> Any:
    """An operator of torch, under the name of this file: compilers and exporters take it as one step."""
    name = f"{__name__.replace('.', '_')}::{function.__name__}"
    return torch.library.custom_op(name, function, mutates_args=())


def runs(*tensors: Tensor | None) -> bool:
    """Whether kernels take these tensors; elsewhere the PyTorch forms run."""
    kinds = torch.float32, torch.bfloat16, torch.float16
    given = [x for x in tensors if x is not None]
    return triton is not None and all((x.is_cuda or INTERPRETED) and x.dtype in kinds for x in given)


def alike(*tensors: Tensor) -> list[Tensor]:
    """The tensors in one dtype: autocast's where it is on, else the widest of theirs."""
    device, kind = tensors[0].device.type, tensors[0].dtype
    for x in tensors[1:]:
        kind = torch.promote_types(kind, x.dtype)
    if torch.is_autocast_enabled(device):
        kind = torch.get_autocast_dtype(device)
    return [x.to(kind) for x in tensors]


def dense(x: Tensor) -> Tensor:
    """The tensor with its last axis in one piece."""
    return x if x.stride(-1) == 1 else x.contiguous()


# The shapes of tiles that `archlang tune` measured to be the fastest, by device and case; others are those of the rules.
CONFIGS: dict[str, dict[str, int]] = {}


@cache
def device_name(device: torch.device) -> str:
    """A GPU, as records of `archlang tune` name it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"


def tile_shape(kernel: str, x: Tensor, sizes: Mapping[str, int], **shipped: int) -> dict[str, int]:
    """The shape of a kernel's tiles: as it was measured to be the fastest here for such sizes, else as it ships."""
    if not CONFIGS:
        return shipped
    words = [kernel, *(f"{name}={tile(size, 1)}" for name, size in sizes.items()), str(x.dtype).removeprefix("torch.")]
    found = CONFIGS.get(f"{device_name(x.device)} | {' '.join(words)}", shipped)
    return {**found} if found.keys() == shipped.keys() else shipped


def math_of(x: Tensor) -> dict[str, Any]:
    """How products are taken: float32 as three of TF32, which is float32 but for the last bit, or as one where torch
    may do so; always summed in float32. The interpreter multiplies no bfloat16, so that it is widened there.
    """
    precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"
    return {"PRECISION": precision, "WIDEN": INTERPRETED and x.dtype == torch.bfloat16}


@jit
def product(a, b, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """a @ b"""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@jit
def map_load(x, row, stride, here, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """A row of x for each place that is here, 0 elsewhere and beyond the width."""
    column = tl.arange(0, COLUMNS)
    seen = here[:, None] & (column < WIDTH)[None, :]
    return tl.load(x + row.to(tl.int64)[:, None] * stride + column[None, :], mask=seen, other=0.0)


@jit
def map_store(x, row, stride, here, value, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """A row of x for each place that is here."""
    column = tl.arange(0, COLUMNS)
    seen = here[:, None] & (column < WIDTH)[None, :]
    tl.store(x + row.to(tl.int64)[:, None] * stride + column[None, :], value.to(x.dtype.element_ty), mask=seen)


def flat_strides(x: Tensor) -> tuple[int, int, int]:
    """From sample to sample, place to place and head to head of x [batch, *map, heads, c]."""
    return x.stride(0), x.stride(-3), x.stride(-2)


def flat_map(x: Tensor) -> Tensor:
    """x [batch, *map, heads, c] such that places follow one another at equal steps; a copy only where they do not."""
    return dense(x.flatten(1, -3)).unflatten(1, x.shape[1:-2])


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


def on_map(places: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """[tile, place] of a map of `sizes` from the [tile, place] along each of its axes: of positions and places the last
    axis is the fastest, of tiles the first.
    """
    index = places[0]
    for own, size in zip(places[1:], sizes[1:], strict=True):
        index = (index[:, :, None] * size + own[:, None, None]).flatten(0, 1).flatten(1)
    return index


def keys_in_tiles(mask: Tensor, near: Sequence[AxisTiles]) -> Tensor:
    """mask[batch, *map] as [tile, batch, 1, 1, key]."""
    keys = on_map([tiles.keys for tiles in near], mask.shape[1:])
    return mask.flatten(1)[:, keys].transpose(0, 1)[:, :, None, None]


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


def offset_bias(table: Tensor, offsets: Tensor) -> Tensor:
    """bias[tile, batch, head, i, j] = table[batch, head, *offset], by the row of each offset [tile, i, j]."""
    rows = table.flatten(2).movedim(2, 0).contiguous()  # side by side, or to select them is slow
    bias: Tensor = rows.index_select(0, offsets.flatten()).unflatten(0, offsets.shape)
    return bias.permute(0, 3, 4, 1, 2)


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


def segments_in_tiles(segments: Tensor, near: Sequence[AxisTiles]) -> Tensor:
    """Which keys are of the document of a query, [tile, batch, 1, query, key], for segments [batch, *map]."""
    space = [tiles.size for tiles in near]
    flat = segments.expand(-1, *space).flatten(1)
    queries, keys = on_map([tiles.queries for tiles in near], space), on_map([tiles.keys for tiles in near], space)
    return (flat[:, queries][..., None] == flat[:, keys][..., None, :]).transpose(0, 1)[:, :, None]


def near_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    near: Sequence[NearAxis],
    table: Tensor | None = None,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
    radius: int | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Attention of q [batch, *map, heads, c] to the keys that are `near` along every axis and closer than `radius`; k
    and v may have fewer heads. `table` [heads, *offsets] is a bias for every offset of a key, `mask` [batch, *map] says
    which keys are there, `segments` [batch, *map] the document of each place; `cap` bounds the scaled products, `sink`
    [heads, 1, 1] is one more logit to be divided by; a `score` stands for softmax.
    """
    k, v = (x if x.shape[-2] == 1 else x.repeat_interleave(q.shape[-2] // x.shape[-2], -2) for x in (k, v))
    shape = torch.broadcast_shapes(*(x.shape[:-1] for x in (q, k, v)))
    q, k, v = (x.expand(*shape, x.shape[-1]) for x in (q, k, v))
    axes = [axis.tiles(size, q.device) for axis, size in zip(near, q.shape[1:-2], strict=True)]
    tiles = MapTiles(axes, radius, () if table is None else table.shape[1:])
    seen = tiles.seen
    if mask is not None:
        seen = seen & keys_in_tiles(mask, axes)
    if segments is not None:
        seen = seen & segments_in_tiles(segments, axes)
    if table is not None and tiles.offsets is not None:
        seen = torch.where(seen, offset_bias(table[None], tiles.offsets), float("-inf"))
    plain = cap is None and sink is None and score is None
    core = fused_attention if plain else partial(scored_attention, score=score, cap=cap, sink=sink)
    return local_attention(q, k, v, tiles, seen, scale, core=core)


@jit
def softmax_weights(logits, top, total):
    """exp(logits - top) with the largest logit so far as `top`, what exponentials before are worth now, that logit, and
    the sum of all.
    """
    new_top = tl.maximum(top, tl.max(logits, 1))
    base = tl.where(new_top == float("-inf"), 0.0, new_top)  # for rows that have seen nothing yet
    weights, kept = tl.exp(logits - base[:, None]), tl.exp(top - base)
    return weights, kept, new_top, total * kept + tl.sum(weights, 1)


NEAR_PARTS = 4096  # so many programs sum the gradient of a table


@jit
def near_tile(at, size, step, TILE: tl.constexpr):
    """A tile of a map: its sample, and along each axis the class of its positions, which are `step` apart, and the first."""
    rest_1, at = at % step[1], at // step[1]
    tiles = tl.cdiv(tl.cdiv(size[1], step[1]), TILE[1])
    corner_1, at = at % tiles * TILE[1], at // tiles
    rest_0, at = at % step[0], at // step[0]
    tiles = tl.cdiv(tl.cdiv(size[0], step[0]), TILE[0])
    corner_0, at = at % tiles * TILE[0], at // tiles
    return at, (rest_0, rest_1), (corner_0, corner_1)


@jit
def near_places(n, rest, corner, width, size, step):
    """The places n of a box: their rows on the map, whether they are there, and their positions in steps."""
    row, stride, here = n * 0, 1, n >= 0
    x_1, n = corner[1] + n % width[1], n // width[1]
    place = x_1 * step[1] + rest[1]
    here &= place < size[1]
    row, stride = row + place * stride, stride * size[1]
    x_0 = corner[0] + n
    here &= n < width[0]
    place = x_0 * step[0] + rest[0]
    here &= place < size[0]
    row, stride = row + place * stride, stride * size[0]
    return row, here, (x_0, x_1)


@jit
def near_span(x, rest, size, step, count, BACK: tl.constexpr):
    """Along each axis the first and the last position that x sees; that see x, where BACK."""
    end = (size[0] - 1 - rest[0]) // step[0]
    first_0, last_0 = x[0] * 0, x[0] * 0 + end
    half = count[0] // 2
    if BACK:
        first_0 = tl.maximum(first_0, tl.where(x[0] < count[0], 0, x[0] + 1 - count[0] + half))
        last_0 = tl.minimum(last_0, tl.where(x[0] > end - count[0], end, x[0] + half))
    else:  # at a border the window moves inwards
        window = tl.minimum(tl.maximum(x[0] - half, 0), end + 1 - count[0])
        first_0, last_0 = tl.maximum(first_0, window), tl.minimum(last_0, window + count[0] - 1)
    end = (size[1] - 1 - rest[1]) // step[1]
    first_1, last_1 = x[1] * 0, x[1] * 0 + end
    half = count[1] // 2
    if BACK:
        first_1 = tl.maximum(first_1, tl.where(x[1] < count[1], 0, x[1] + 1 - count[1] + half))
        last_1 = tl.minimum(last_1, tl.where(x[1] > end - count[1], end, x[1] + half))
    else:  # at a border the window moves inwards
        window = tl.minimum(tl.maximum(x[1] - half, 0), end + 1 - count[1])
        first_1, last_1 = tl.maximum(first_1, window), tl.minimum(last_1, window + count[1] - 1)
    return (first_0, first_1), (last_0, last_1)


@jit
def near_box(rest, corner, size, step, count, BACK: tl.constexpr, TILE: tl.constexpr):
    """The positions that a tile sees, or by which it is seen: the first, how many along each axis, and in all."""
    end = (size[0] - 1 - rest[0]) // step[0]
    head_0, tail_0 = tl.minimum(corner[0], end), tl.minimum(corner[0] + TILE[0] - 1, end)
    end = (size[1] - 1 - rest[1]) // step[1]
    head_1, tail_1 = tl.minimum(corner[1], end), tl.minimum(corner[1] + TILE[1] - 1, end)
    first, _ = near_span((head_0, head_1), rest, size, step, count, BACK)
    _, last = near_span((tail_0, tail_1), rest, size, step, count, BACK)
    width_0 = last[0] - first[0] + 1
    width_1 = last[1] - first[1] + 1
    return first, (width_0, width_1), width_0 * width_1


@jit
def near_rows(x):
    return (x[0][:, None], x[1][:, None])


@jit
def near_columns(x):
    return (x[0][None, :], x[1][None, :])


@jit
def near_pairs(first, last, query, key):
    """Which keys are seen by queries that see from a first to a last one."""
    seen = (key[0] >= first[0]) & (key[0] <= last[0]) & (key[1] >= first[1]) & (key[1] <= last[1])
    return seen


@jit
def near_logits(a, b, scale, seen, query, key, table, span, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """scale * a b^T + table[key - query] where it is seen, else -inf."""
    logits = product(a, tl.trans(b), PRECISION, WIDEN) * scale
    if table is not None:
        logits += tl.load(table + near_offset(query, key, span), mask=seen, other=0.0)
    return tl.where(seen, logits, float("-inf"))


@jit
def near_offset(query, key, span):
    """The row of a table for the offset from query to key, the offset 0 in the middle."""
    row = 0
    row = row * span[0] + key[0] - query[0] + span[0] // 2
    row = row * span[1] + key[1] - query[1] + span[1] // 2
    return row


@jit
def near_attention_forward(
    q,
    k,
    v,
    table,
    out,
    lse,
    scale,
    heads,
    group,
    places,
    q_strides,
    k_strides,
    v_strides,
    size,
    step,
    count,
    span,
    TILE: tl.constexpr,
    SOME: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    D: tl.constexpr,
    VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """A tile of queries of one head against the keys that one of them sees, some at a time."""
    ROWS: tl.constexpr = TILE[0] * TILE[1]
    head = tl.program_id(1).to(tl.int64)
    batch, rest, corner = near_tile(tl.program_id(0), size, step, TILE)
    batch = tl.cast(batch, tl.int64)
    k += batch * k_strides[0] + head // group * k_strides[2]
    v += batch * v_strides[0] + head // group * v_strides[2]
    table = table + head * span[0] * span[1] if table is not None else None
    row, here, query = near_places(tl.arange(0, ROWS), rest, corner, TILE, size, step)
    first, last = near_span(query, rest, size, step, count, False)
    low, width, total = near_box(rest, corner, size, step, count, False, TILE)
    first, last, query = near_rows(first), near_rows(last), near_rows(query)
    q_tile = map_load(q + batch * q_strides[0] + head * q_strides[2], row, q_strides[1], here, C, CHANNELS)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    weight = tl.zeros([ROWS], tl.float32)
    value = tl.zeros([ROWS, VALUES], tl.float32)
    for start in range(0, total, SOME):
        row_k, there, key = near_places(start + tl.arange(0, SOME), rest, low, width, size, step)
        key = near_columns(key)
        k_tile = map_load(k, row_k, k_strides[1], there, C, CHANNELS)
        v_tile = map_load(v, row_k, v_strides[1], there, D, VALUES)
        seen = here[:, None] & there[None, :] & near_pairs(first, last, query, key)
        logits = near_logits(q_tile, k_tile, scale, seen, query, key, table, span, PRECISION, WIDEN)
        weights, kept, top, weight = softmax_weights(logits, top, weight)
        value = value * kept[:, None] + product(weights.to(v_tile.dtype), v_tile, PRECISION, WIDEN)
    safe = tl.where(weight > 0, weight, 1.0)
    map_store(out + (batch * places * heads + head) * D, row, heads * D, here, value / safe[:, None], D, VALUES)
    base = tl.where(weight > 0, top + tl.log(safe), float("inf"))  # no weights where nothing is seen
    tl.store(lse + (batch * heads + head) * places + row, base, mask=here)


@jit
def near_attention_backward_queries(
    grad,
    q,
    k,
    v,
    table,
    out,
    lse,
    mean,
    grad_q,
    scale,
    heads,
    group,
    places,
    q_strides,
    k_strides,
    v_strides,
    size,
    step,
    count,
    span,
    TILE: tl.constexpr,
    SOME: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    D: tl.constexpr,
    VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The gradient of a tile of queries, and the mean slope of each of them."""
    ROWS: tl.constexpr = TILE[0] * TILE[1]
    head = tl.program_id(1).to(tl.int64)
    batch, rest, corner = near_tile(tl.program_id(0), size, step, TILE)
    batch = tl.cast(batch, tl.int64)
    k += batch * k_strides[0] + head // group * k_strides[2]
    v += batch * v_strides[0] + head // group * v_strides[2]
    table = table + head * span[0] * span[1] if table is not None else None
    row, here, query = near_places(tl.arange(0, ROWS), rest, corner, TILE, size, step)
    first, last = near_span(query, rest, size, step, count, False)
    low, width, total = near_box(rest, corner, size, step, count, False, TILE)
    first, last, query = near_rows(first), near_rows(last), near_rows(query)
    at = batch * places * heads + head
    q_tile = map_load(q + batch * q_strides[0] + head * q_strides[2], row, q_strides[1], here, C, CHANNELS)
    grad_tile = map_load(grad + at * D, row, heads * D, here, D, VALUES)
    out_tile = map_load(out + at * D, row, heads * D, here, D, VALUES)
    lse_tile = tl.load(lse + (batch * heads + head) * places + row, mask=here, other=float("inf"))
    mean_tile = tl.sum(grad_tile.to(tl.float32) * out_tile.to(tl.float32), 1)
    tl.store(mean + (batch * heads + head) * places + row, mean_tile, mask=here)
    value = tl.zeros([ROWS, CHANNELS], tl.float32)
    for start in range(0, total, SOME):
        row_k, there, key = near_places(start + tl.arange(0, SOME), rest, low, width, size, step)
        key = near_columns(key)
        k_tile = map_load(k, row_k, k_strides[1], there, C, CHANNELS)
        v_tile = map_load(v, row_k, v_strides[1], there, D, VALUES)
        seen = here[:, None] & there[None, :] & near_pairs(first, last, query, key)
        logits = near_logits(q_tile, k_tile, scale, seen, query, key, table, span, PRECISION, WIDEN)
        weights = tl.exp(logits - lse_tile[:, None])
        slope = weights * (product(grad_tile, tl.trans(v_tile), PRECISION, WIDEN) - mean_tile[:, None])
        value += product(slope.to(k_tile.dtype), k_tile, PRECISION, WIDEN)
    map_store(grad_q + at * C, row, heads * C, here, value * scale, C, CHANNELS)


@jit
def near_attention_backward_keys(
    grad,
    q,
    k,
    v,
    table,
    lse,
    mean,
    grad_k,
    grad_v,
    scale,
    heads,
    group,
    places,
    q_strides,
    k_strides,
    v_strides,
    size,
    step,
    count,
    span,
    TILE: tl.constexpr,
    SOME: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    D: tl.constexpr,
    VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The gradients of a tile of keys and values, for the queries of all heads that share them."""
    ROWS: tl.constexpr = TILE[0] * TILE[1]
    shared = tl.program_id(1).to(tl.int64)
    batch, rest, corner = near_tile(tl.program_id(0), size, step, TILE)
    batch = tl.cast(batch, tl.int64)
    row_k, there, key = near_places(tl.arange(0, ROWS), rest, corner, TILE, size, step)
    low, width, total = near_box(rest, corner, size, step, count, True, TILE)
    key = near_rows(key)
    k_tile = map_load(k + batch * k_strides[0] + shared * k_strides[2], row_k, k_strides[1], there, C, CHANNELS)
    v_tile = map_load(v + batch * v_strides[0] + shared * v_strides[2], row_k, v_strides[1], there, D, VALUES)
    here = there
    k_sum = tl.zeros([ROWS, CHANNELS], tl.float32)
    v_sum = tl.zeros([ROWS, VALUES], tl.float32)
    for head in range(shared * group, shared * group + group):
        at = batch * places * heads + head
        bias = table + head * span[0] * span[1] if table is not None else None
        for start in range(0, total, SOME):
            row, some, query = near_places(start + tl.arange(0, SOME), rest, low, width, size, step)
            first, last = near_span(query, rest, size, step, count, False)
            first, last, query = near_columns(first), near_columns(last), near_columns(query)
            seen = there[:, None] & some[None, :] & near_pairs(first, last, query, key)
            q_tile = map_load(q + batch * q_strides[0] + head * q_strides[2], row, q_strides[1], some, C, CHANNELS)
            logits = near_logits(k_tile, q_tile, scale, seen, query, key, bias, span, PRECISION, WIDEN)
            lse_tile = tl.load(lse + (batch * heads + head) * places + row, mask=some, other=float("inf"))
            weights = tl.exp(logits - lse_tile[None, :])
            grad_tile = map_load(grad + at * D, row, heads * D, some, D, VALUES)
            v_sum += product(weights.to(grad_tile.dtype), grad_tile, PRECISION, WIDEN)
            mean_tile = tl.load(mean + (batch * heads + head) * places + row, mask=some, other=0.0)
            slope = weights * (product(v_tile, tl.trans(grad_tile), PRECISION, WIDEN) - mean_tile[None, :])
            k_sum += product(slope.to(q_tile.dtype), q_tile, PRECISION, WIDEN)
    at = batch * places * (heads // group) + shared
    map_store(grad_k + at * C, row_k, heads // group * C, here, k_sum * scale, C, CHANNELS)
    map_store(grad_v + at * D, row_k, heads // group * D, here, v_sum, D, VALUES)


@jit
def near_attention_backward_table(
    grad,
    q,
    k,
    v,
    table,
    lse,
    mean,
    grad_table,
    scale,
    parts,
    each,
    total,
    heads,
    group,
    places,
    q_strides,
    k_strides,
    v_strides,
    size,
    step,
    count,
    span,
    TILE: tl.constexpr,
    SOME: tl.constexpr,
    C: tl.constexpr,
    CHANNELS: tl.constexpr,
    D: tl.constexpr,
    VALUES: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The gradient of one offset in the table of one head: every query has one key there; one part of them is summed."""
    at, part, head = tl.program_id(0) // parts, tl.program_id(0) % parts, tl.program_id(1).to(tl.int64)
    store = (tl.cast(part, tl.int64) * heads + head) * span[0] * span[1] + at
    apart, stride = 0, 1
    step_1, at = at % span[1] - span[1] // 2, at // span[1]
    apart, stride = apart + step_1 * step[1] * stride, stride * size[1]
    step_0, at = at % span[0] - span[0] // 2, at // span[0]
    apart, stride = apart + step_0 * step[0] * stride, stride * size[0]
    bias = tl.load(table + (store - tl.cast(part, tl.int64) * heads * span[0] * span[1]))
    slopes = tl.zeros([SOME], tl.float32)
    for tile in range(part * each, part * each + each):
        n = tl.cast(tile, tl.int64) * SOME + tl.arange(0, SOME)
        batch, place = n // places, n % places
        x = place
        x_1, x = (x % size[1]).to(tl.int32), x // size[1]
        rest_1, x_1 = x_1 % step[1], x_1 // step[1]
        key_1 = x_1 + step_1
        x_0, x = (x % size[0]).to(tl.int32), x // size[0]
        rest_0, x_0 = x_0 % step[0], x_0 // step[0]
        key_0 = x_0 + step_0
        first, last = near_span((x_0, x_1), (rest_0, rest_1), size, step, count, False)
        seen = (n < total) & near_pairs(first, last, (x_0, x_1), (key_0, key_1))
        if tl.max(seen.to(tl.int32), 0) > 0:
            q_tile = map_load(
                q + head * q_strides[2], batch * q_strides[0] + place * q_strides[1], 1, seen, C, CHANNELS
            )
            k_tile = map_load(
                k + head // group * k_strides[2],
                batch * k_strides[0] + (place + apart) * k_strides[1],
                1,
                seen,
                C,
                CHANNELS,
            )
            v_tile = map_load(
                v + head // group * v_strides[2],
                batch * v_strides[0] + (place + apart) * v_strides[1],
                1,
                seen,
                D,
                VALUES,
            )
            grad_tile = map_load(grad + head * D, n, heads * D, seen, D, VALUES)
            lse_tile = tl.load(lse + (batch * heads + head) * places + place, mask=seen, other=float("inf"))
            mean_tile = tl.load(mean + (batch * heads + head) * places + place, mask=seen, other=0.0)
            logits = tl.sum(q_tile.to(tl.float32) * k_tile.to(tl.float32), 1) * scale
            logits = logits + bias
            weights = tl.exp(logits - lse_tile)
            slopes += weights * (tl.sum(grad_tile.to(tl.float32) * v_tile.to(tl.float32), 1) - mean_tile)
    tl.store(grad_table + store, tl.sum(slopes))


def near_sides(lengths: list[int], places: int) -> tuple[int, ...]:
    """The sides, powers of 2, of a tile of so many places: as even as the lengths of the axes let them be."""
    sides = [1] * len(lengths)
    while prod(sides) < places:
        room = [axis for axis, side in enumerate(sides) if side < lengths[axis]] or [len(sides) - 1]
        sides[min(room, key=lambda axis: (sides[axis], -axis))] *= 2
    return tuple(sides)


def near_call(
    part: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    mask: Tensor | None,
    segments: Tensor | None,
    sink: Tensor | None,
    near: list[int],
    radius: int,
    cap: float,
    scale: float,
) -> dict[str, Any]:
    """What every kernel of a call is told: tensors, counts, strides, the bounds of the axes, and the shape of a tile."""
    ahead, c, d = [1] * (2 + 3 - q.dim()), q.shape[-1], v.shape[-1]
    near, size = [1, 1, 1, 1, 0, 1] * len(ahead) + near, (*ahead, *q.shape[1:-2])
    half, line, wide = q.element_size() == 2, len(size) == 1, tile(max(c, d))
    some = 16 if not half or wide > 64 and not line else 32 if wide > 32 or not line or table is not None else 64
    step, before, after, chunk, begin, count = (tuple(near[place::6]) for place in range(6))
    warps = (4 if half else 2) * (1 if line and not (table is not None and wide > 64) else 2)
    shipped = dict(PLACES=64 if half else 16 if line else 32, SOME=some, num_warps=warps, num_stages=1)
    shape = tile_shape(f"near_attention.{part}", q, dict(axes=len(size), c=c, d=d), **shipped)
    lengths = [-(-whole // gap) for whole, gap in zip(size, step, strict=True)]
    return dict(
        q=q,
        k=k,
        v=v,
        table=table,
        span=(1,) * 2 if table is None else (*ahead, *table.shape[1:]),
        scale=scale,
        heads=q.shape[-2],
        group=q.shape[-2] // k.shape[-2],
        places=prod(size),
        q_strides=flat_strides(q),
        k_strides=flat_strides(k),
        v_strides=flat_strides(v),
        size=size,
        step=step,
        count=count,
        TILE=near_sides(lengths, shape.pop("PLACES")),
        C=c,
        CHANNELS=tile(c),
        D=d,
        VALUES=tile(d),
        **math_of(q),
        **shape,
    )


def near_grid(call: dict[str, Any], heads: int) -> tuple[int, int]:
    """A program for every tile of every sample, and every head."""
    tiles = [
        triton.cdiv(triton.cdiv(*pair), side) * pair[1]
        for *pair, side in zip(call["size"], call["step"], call["TILE"], strict=True)
    ]
    return call["q"].shape[0] * prod(tiles), heads


@operation
def attend_near(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    mask: Tensor | None,
    segments: Tensor | None,
    sink: Tensor | None,
    near: list[int],
    radius: int,
    cap: float,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The output, and of every query the logarithm of what softmax divides by: [batch, heads, places]."""
    call = near_call(
        "forward", flat_map(q), flat_map(k), flat_map(v), table, mask, segments, sink, near, radius, cap, scale
    )
    out, lse = attend_near_like(q, k, v, table, mask, segments, sink, near, radius, cap, scale)
    near_attention_forward[near_grid(call, q.shape[-2])](out=out, lse=lse, **call)
    return out, lse


@attend_near.register_fake
def attend_near_like(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    mask: Tensor | None,
    segments: Tensor | None,
    sink: Tensor | None,
    near: list[int],
    radius: int,
    cap: float,
    scale: float,
) -> tuple[Tensor, Tensor]:
    lse = q.new_empty(q.shape[0], q.shape[-2], prod(q.shape[1:-2]), dtype=torch.float32)
    return q.new_empty(*q.shape[:-1], v.shape[-1]), lse


@operation
def attend_near_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    mask: Tensor | None,
    segments: Tensor | None,
    sink: Tensor | None,
    out: Tensor,
    lse: Tensor,
    near: list[int],
    radius: int,
    cap: float,
    scale: float,
    learned: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, k, v, of a table that is learned, and of the sink."""
    call = near_call(
        "backward", flat_map(q), flat_map(k), flat_map(v), table, mask, segments, sink, near, radius, cap, scale
    )
    grad, mean = grad.contiguous(), torch.empty_like(lse)
    grad_q, grad_k, grad_v = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    near_attention_backward_queries[near_grid(call, q.shape[-2])](
        grad=grad, out=out, lse=lse, mean=mean, grad_q=grad_q, **call
    )
    near_attention_backward_keys[near_grid(call, k.shape[-2])](
        grad=grad, lse=lse, mean=mean, grad_k=grad_k, grad_v=grad_v, **call
    )
    grad_table, grad_sink = lse.new_empty(0), lse.new_empty(0)
    if learned:
        offsets, total = prod(table.shape[1:]), q.shape[0] * call["places"]
        tiles = triton.cdiv(total, call["SOME"])
        each = triton.cdiv(tiles, max(1, NEAR_PARTS // (offsets * table.shape[0])))
        parts = triton.cdiv(tiles, each)
        grad_table = lse.new_empty(parts, *table.shape)
        grid = offsets * parts, table.shape[0]
        near_attention_backward_table[grid](
            grad=grad, lse=lse, mean=mean, grad_table=grad_table, parts=parts, each=each, total=total, **call
        )
        grad_table = grad_table.sum(0).to(table.dtype, copy=True)
    return grad_q, grad_k, grad_v, grad_table, grad_sink


@attend_near_backward.register_fake
def attend_near_backward_like(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    mask: Tensor | None,
    segments: Tensor | None,
    sink: Tensor | None,
    out: Tensor,
    lse: Tensor,
    near: list[int],
    radius: int,
    cap: float,
    scale: float,
    learned: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad_q, grad_k, grad_v = (x.new_empty(x.shape) for x in (q, k, v))
    grad_table = table.new_empty(table.shape) if learned else lse.new_empty(0)
    return grad_q, grad_k, grad_v, grad_table, lse.new_empty(0) if sink is None else sink.new_empty(sink.shape)


def attend_near_keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:7], *output)
    ctx.given = inputs[7:]


def attend_near_gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    kept, learned = ctx.saved_tensors, ctx.needs_input_grad[3]  # a table that follows from distances is not
    *grads, grad_table, grad_sink = attend_near_backward(grad, *kept, *ctx.given, learned)
    table, sink = grad_table if learned else None, None if kept[6] is None else grad_sink
    return *grads, table, None, None, sink, None, None, None, None


attend_near.register_autograd(attend_near_gradients, setup_context=attend_near_keep)


def near_table(table: Tensor, near: Sequence[int]) -> Tensor:
    """A table [heads, *offsets] of exactly the offsets that there are; those beyond it have the value at its border."""
    for axis, most in enumerate(near, 1):
        size = table.shape[axis]
        if size != 2 * most + 1:
            offset = torch.arange(-most, most + 1, device=table.device).clamp(-(size // 2), size // 2)
            table = table.index_select(axis, offset + size // 2)
    return table.contiguous()


def triton_near_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    near: Sequence[NearAxis],
    table: Tensor | None = None,
    mask: Tensor | None = None,
    segments: Tensor | None = None,
    radius: int | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
) -> Tensor:
    """`near_attention` by kernels."""
    narrow = max(q.shape[-1], v.shape[-1]) <= (64 if alike(q, k, v)[0].dtype == torch.float32 else 128)
    if not runs(q, k, v, table, sink) or not narrow or not q.numel():
        return near_attention(q, k, v, near, table, mask, segments, radius, scale, cap, sink)
    q, k, v = alike(q, k, v)
    batch, size = torch.broadcast_shapes(*(x.shape[:-2] for x in (q, k, v))), q.shape[1:-2]
    shared = max(k.shape[-2], v.shape[-2])
    q, k, v = (
        x.expand(*batch, heads, x.shape[-1]) for x, heads in ((q, max(q.shape[-2], shared)), (k, shared), (v, shared))
    )
    bounds = [number for axis, places in zip(near, size, strict=True) for number in axis.bounds(places)]
    if table is not None:
        table = near_table(
            table.expand(q.shape[-2], *table.shape[1:]),
            [axis.most(places) for axis, places in zip(near, size, strict=True)],
        )
    if mask is not None:
        mask = mask.expand(*batch).to(torch.uint8).contiguous()
    if segments is not None:
        segments = segments.expand(*batch).long().contiguous()
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return attend_near(q, k, v, table, mask, segments, sink, bounds, radius or 0, cap or 0.0, scale)[0]


class Net(nn.Module):
    def forward(self, q: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        if q.ndim != 5:
            raise ValueError(f"q must be [b, h, w, heads, c], and is {list(q.shape)}")
        if near.ndim != 3 or near.shape[1:] != (5, 5):
            raise ValueError(f"near must be [heads, h_offset = 5, w_offset = 5], and is {list(near.shape)}")
        _, h, w, heads, _ = q.shape
        if near.shape[0] != heads:
            raise ValueError(f"axis heads of near must be heads = {heads}, and is {near.shape[0]}")
        if h < 6:
            raise ValueError(f"h >= 6 must hold, and h = {h}")
        if w < 6:
            raise ValueError(f"w >= 6 must hold, and w = {w}")
        near2 = [NearAxis(tile=4, width=7, nearest=3, lead=2, step=2), NearAxis(tile=4, width=6, nearest=3, step=2)]
        return triton_near_attention(q, q, q, near2, table=near)

    def graph(self, *inputs: torch.Tensor) -> Captured:
        """The evaluation of inputs of these shapes as one CUDA graph, which takes others of them."""
        return Captured(self, inputs)
