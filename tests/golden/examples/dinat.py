"""DiNAT: Dilated Neighborhood Attention Transformer (Hassani and Shi, 2022)."""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AxisTiles:
    """An axis in tiles of `tile` queries that are `step` apart, each beside the `width` keys from the first that one
    of them sees. `span` holds the first and the last key of every position.
    """

    def __init__(self, span: tuple[Tensor, Tensor], tile: int, width: int, step: int = 1) -> None:
        first, last = span
        self.size, self.tile, self.step = first.shape[0], tile, step
        tiles = -(-self.size // (tile * step))
        if type(tiles) is not int:  # else an exported program serves one tile, or several
            tiles = torch.sym_max(tiles, 2)
        block = torch.arange(tiles * step, device=first.device)[:, None]
        i = (block // step * tile + torch.arange(tile, device=first.device)) * step + block % step
        self.queries = torch.where(i < self.size, i, i - step * ((i - self.size) // step + 1))  # [tiles, tile]
        first, last = first[self.queries], last[self.queries]
        start = self.queries[:, :1] - (self.queries[:, :1] - first.amin(1, keepdim=True)) // step * step
        keys = start + step * torch.arange(width, device=first.device)
        self.seen = (keys[:, None] >= first[..., None]) & (keys[:, None] <= last[..., None])  # [tiles, tile, width]
        self.keys = keys.clamp(max=self.size - 1)

    def cut(self, x: Tensor, axis: int) -> Tensor:
        """Queries: the axis becomes [tiles, tile]."""
        return x.index_select(axis, self.queries.flatten()).view(
            *x.shape[:axis], *self.queries.shape, *x.shape[axis + 1 :]
        )

    def near(self, x: Tensor, axis: int) -> Tensor:
        """Keys and values: the axis becomes [tiles, width]."""
        return x.index_select(axis, self.keys.flatten()).view(*x.shape[:axis], *self.keys.shape, *x.shape[axis + 1 :])

    def join(self, x: Tensor, axis: int) -> Tensor:
        """The axes [tiles, tile] back as one."""
        i = torch.arange(self.size, device=x.device)
        tiles = i // (self.tile * self.step) * self.step + i % self.step
        return x.flatten(axis, axis + 1).index_select(axis, tiles * self.tile + i // self.step % self.tile)


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if rate == 0 or not training:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    return x * (x.new_empty(shape).bernoulli_(1 - rate) / (1 - rate))


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, drop: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attention of q, k, v: [cells, batch, heads, places, c]; a mask may lack batch and heads, with size 1."""
    cells, batch, heads = q.shape[:3]
    if mask is not None:
        shared = mask.shape[1] == mask.shape[2] == 1
        mask = mask[:, 0] if shared else mask.expand(cells, batch, heads, *mask.shape[3:]).flatten(1, 2)
    q, k, v = q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2)
    x = F.scaled_dot_product_attention(q, k, v, mask, drop, scale=scale)
    return x.view(cells, batch, heads, *x.shape[2:])


def local_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    near: Sequence[AxisTiles],
    mask: Tensor,
    scale: float | None = None,
    drop: float = 0.0,
    core: Callable[..., Tensor] = fused_attention,
) -> Tensor:
    """Attention of q, k, v: [batch, *map, heads, c] in tiles of the map: queries beside the keys near them. `mask` says
    what is seen or is a bias, [tiles, batch, heads, query, key].
    """
    rank = len(near)
    across, inside = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    for axis, tiles in enumerate(near):
        q, k, v = tiles.cut(q, 2 * axis + 1), tiles.near(k, 2 * axis + 1), tiles.near(v, 2 * axis + 1)

    def laid(x: Tensor) -> Tensor:
        """[batch, (tiles, places) of each axis, heads, c] -> [tiles, batch, heads, places, c]"""
        x = x.permute(*across, 0, 2 * rank + 1, *inside, 2 * rank + 2)
        return x.flatten(rank + 2, -2).flatten(0, rank - 1)

    x = core(laid(q), laid(k), laid(v), mask, drop, scale=scale)
    x = x.reshape(*(tiles.keys.shape[0] for tiles in near), *x.shape[1:3], *(tiles.tile for tiles in near), x.shape[-1])
    x = x.permute(rank, *(at for axis in range(rank) for at in (axis, rank + 2 + axis)), rank + 1, 2 * rank + 2)
    for axis, tiles in enumerate(near):
        x = tiles.join(x, axis + 1)
    return x


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


def over_tiles(parts: Sequence[Tensor], join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """[tiles, query, key] of each axis joined to that of all axes."""

    def both(a: Tensor, b: Tensor) -> Tensor:
        joined = join(a[:, None, :, None, :, None], b[None, :, None, :, None, :])
        return joined.flatten(0, 1).flatten(1, 2).flatten(2)

    return reduce(both, parts)


def offset_bias(table: Tensor, near: Sequence[AxisTiles]) -> Tensor:
    """bias[tile, batch, head, i, j] = table[batch, head, *(j - i)], counted in steps from the middle of the table."""
    places = []
    for tiles, size in zip(near, table.shape[2:], strict=True):
        offset = (tiles.keys[:, None] - tiles.queries[..., None]) // tiles.step + size // 2
        places.append(offset.clamp(0, size - 1))
    sizes = iter(table.shape[3:])
    index = over_tiles(places, lambda a, b: a * next(sizes) + b)
    return table.flatten(2)[:, :, index].permute(2, 0, 1, 3, 4)


class OffsetTable(nn.Module):
    """weight[head, *offset of the key], the offset 0 in the middle."""

    def __init__(self, heads: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, *sizes), std=0.02))


def seen_in_tiles(near: Sequence[AxisTiles], radius: int | None = None) -> Tensor:
    """Which keys the queries of a tile see, all closer than `radius`: bool [tiles, 1, 1, query, key]."""
    mask = over_tiles([tiles.seen for tiles in near], lambda a, b: a & b)
    if radius is not None:
        offsets = [tiles.queries[..., None] - tiles.keys[:, None] for tiles in near]
        mask = mask & (over_tiles([offset.square() for offset in offsets], lambda a, b: a + b) < radius**2)
    return mask[:, None, None]


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self, dim: int, height: int, heads: int, attend: int, attend2: int) -> None:
        super().__init__()
        self.height = height
        self.heads = heads
        self.attend = attend
        self.attend2 = attend2
        self.qkv = nn.Linear(dim, 3 * dim)
        self.relative = OffsetTable(heads, (5, 5))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, 4))
        q, k, v = qkv.unbind(3)
        near = [
            AxisTiles(neighbor_span(self.height, 3, device=q.device), tile=self.attend, width=self.attend2),
            AxisTiles(neighbor_span(self.height, 3, device=q.device), tile=self.attend, width=self.attend2),
        ]
        o = local_attention(
            q,
            k,
            v,
            near,
            torch.where(seen_in_tiles(near), offset_bias(self.relative.weight[None], near), float("-inf")),
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

    def __init__(self, dim: int, height: int, drop_path: float, attend: int, attend2: int) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.gamma = nn.Parameter(torch.ones(2, dim) * 1e-5)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, height=height, heads=dim // 4, attend=attend, attend2=attend2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attn(self.norm1(x))
        select, select2 = self.gamma.unbind(0)
        x = x + drop_path(y * select, self.drop_path, self.training)
        y = self.mlp(self.norm2(x))
        return x + drop_path(y * select2, self.drop_path, self.training)


class Block(nn.Module):
    def __init__(self, dim: int, height: int, drop_path: float, attend: int, attend2: int) -> None:
        super().__init__()
        self.layer = DinatLayer(dim, height=height, drop_path=drop_path, attend=attend, attend2=attend2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class SelfAttention2(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.relative = OffsetTable(2, (5, 5))
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 4))
        q, k, v = qkv.unbind(3)
        near = [
            AxisTiles(neighbor_span(8, 3, 2, device=q.device), tile=4, width=4, step=2),
            AxisTiles(neighbor_span(8, 3, 2, device=q.device), tile=4, width=4, step=2),
        ]
        o = local_attention(
            q,
            k,
            v,
            near,
            torch.where(seen_in_tiles(near), offset_bias(self.relative.weight[None], near), float("-inf")),
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
        select, select2 = self.gamma.unbind(0)
        x = x + drop_path(y * select, 0.15, self.training)
        y = self.mlp(self.norm2(x))
        return x + drop_path(y * select2, 0.15, self.training)


class Block2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = DinatLayer2()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Level(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(8, height=8, drop_path=0.0, attend=3, attend2=5), Block2()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Level2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.reduction_norm = nn.LayerNorm(16)
        self.blocks = nn.ModuleList([Block(16, height=4, drop_path=0.3, attend=4, attend2=4)])

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
