"""DiNAT: Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022)."""

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod

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


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if not training or rate == 0:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    kept = torch.rand(shape, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1 - rate))


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


def offset_bias(table: Tensor, offsets: Tensor) -> Tensor:
    """bias[tile, batch, head, i, j] = table[batch, head, *offset], by the row of each offset [tile, i, j]."""
    rows = table.flatten(2).movedim(2, 0).contiguous()  # side by side, or to select them is slow
    bias: Tensor = rows.index_select(0, offsets.flatten()).unflatten(0, offsets.shape)
    return bias.permute(0, 3, 4, 1, 2)


class OffsetTable(nn.Module):
    """weight[head, *offset of the key], the offset 0 in the middle."""

    def __init__(self, heads: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, *sizes), std=0.02))


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self, dim: int, height: int, heads: int, attend2: int, attend3: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.relative = OffsetTable(heads, (5, 5))
        self.attend = FixedTiles(
            [
                AxisTiles(neighbor_span(height, 3), tile=4, width=attend2, lead=attend3),
                AxisTiles(neighbor_span(height, 3), tile=4, width=attend2),
            ],
            table=(5, 5),
        )
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, 4))
        q, k, v = qkv.unbind(3)
        o = local_attention(
            q,
            k,
            v,
            self.attend,
            torch.where(self.attend.seen, offset_bias(self.relative.weight[None], self.attend.offsets), float("-inf")),
        )
        return self.proj(o.flatten(3))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DinatLayer(nn.Module):
    """Attention to a neighborhood, then an MLP; each adds to its input, in large networks by a weight for every
    channel.
    """

    def __init__(self, dim: int, height: int, drop_path: float, attend2: int, attend3: int) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.gamma = nn.Parameter(torch.ones(2, dim) * 1e-5)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, height=height, heads=dim // 4, attend2=attend2, attend3=attend3)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attn(self.norm1(x))
        gamma0, gamma1 = self.gamma.unbind(0)
        x = x + drop_path(y * gamma0, self.drop_path, self.training)
        y = self.mlp(self.norm2(x))
        return x + drop_path(y * gamma1, self.drop_path, self.training)


class Block(nn.Module):
    def __init__(self, dim: int, height: int, drop_path: float, attend2: int, attend3: int) -> None:
        super().__init__()
        self.layer = DinatLayer(dim, height=height, drop_path=drop_path, attend2=attend2, attend3=attend3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class SelfAttention2(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.relative = OffsetTable(2, (5, 5))
        self.attend = FixedTiles(
            [
                AxisTiles(neighbor_span(8, 3, 2), tile=4, width=4, step=2, lead=0),
                AxisTiles(neighbor_span(8, 3, 2), tile=4, width=4, step=2),
            ],
            table=(5, 5),
        )
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 4))
        q, k, v = qkv.unbind(3)
        o = local_attention(
            q,
            k,
            v,
            self.attend,
            torch.where(self.attend.seen, offset_bias(self.relative.weight[None], self.attend.offsets), float("-inf")),
        )
        return self.proj(o.flatten(3))


class DinatLayer2(nn.Module):
    """Attention to a neighborhood, then an MLP; each adds to its input, in large networks by a weight for every
    channel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(2, 8) * 1e-5)
        self.norm1 = nn.LayerNorm(8)
        self.attn = SelfAttention2()
        self.norm2 = nn.LayerNorm(8)
        self.mlp = Mlp(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attn(self.norm1(x))
        gamma0, gamma1 = self.gamma.unbind(0)
        x = x + drop_path(y * gamma0, 0.15, self.training)
        y = self.mlp(self.norm2(x))
        return x + drop_path(y * gamma1, 0.15, self.training)


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = DinatLayer2()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Level(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(8, height=8, drop_path=0.0, attend2=6, attend3=1), Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Level2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.reduction_norm = nn.LayerNorm(16)
        self.blocks = nn.ModuleList([Block(16, height=4, drop_path=0.3, attend2=4, attend3=0)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.reduction_norm(self.reduction(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        for block in self.blocks:
            x = block(x)
        return x


class Dinat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.embed_norm = nn.LayerNorm(8)
        self.levels = nn.ModuleList([Level(), Level2()])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        x = self.embed_norm(self.conv2(self.conv1(image)).permute(0, 2, 3, 1))
        for level in self.levels:
            x = level(x)
        return self.head(self.norm(x).mean((1, 2)))
