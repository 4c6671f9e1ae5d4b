"""Linear attention for vision, beside the equations of the papers in double precision, under the names of published
checkpoints."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.peers.parity import agree, load, noise


def filter_(dim: int, kernel: int = 3, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=bias)


def on_map(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of [b, c, h, w] for [b, h, w, c]."""
    return layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[.., n, c] each."""
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[b, h, w, heads c] as [b, heads, n, c]."""
    return x.flatten(1, 2).unflatten(-1, (heads, -1)).transpose(1, 2)


def joined(x: Tensor, like: Tensor) -> Tensor:
    """[b, heads, n, c] as [b, h, w, heads c]."""
    return x.transpose(1, 2).flatten(2).unflatten(1, like.shape[1:3])


def pairwise_linear(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """What linear attention sums, with the matrix of all pairs written out."""
    scores = q @ k.mT
    return scores @ v, scores.sum(-1, keepdim=True)


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


# ---- L2ViT
class Filtered(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = filter_(dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + on_map(self.proj, x)


class L2Window(nn.Module):
    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.cpe = nn.ModuleList(Filtered(dim) for _ in range(2))
        self.norm1, self.norm2, self.mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), Mlp(dim)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.cpe[0](x)
        qkv, y, w = self.attn["qkv"](self.norm1(x)), torch.zeros_like(x), self.window
        for i in range(0, x.shape[1], w):
            for j in range(0, x.shape[2], w):
                part = qkv[:, i : i + w, j : j + w]
                q, k, v = (heads_of(piece, self.heads) for piece in part.chunk(3, -1))
                y[:, i : i + w, j : j + w] = joined(softmax_attention(q, k, v), part)
        x = self.cpe[1](x + self.attn["proj"](y))
        return x + self.mlp(self.norm2(x))


class L2Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        total, weight = pairwise_linear(q.relu(), k.relu(), v)
        return self.proj(joined(total * self.temperature / weight.clamp(min=100), x))


class L2Global(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.cpe = nn.ModuleList([Filtered(dim)])
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.attn, self.mlp = L2Attention(dim, heads), Mlp(dim)
        parts = {"conv1": filter_(dim, 7), "bn": nn.BatchNorm2d(dim), "conv2": filter_(dim, 7)}
        self.local_mp = nn.ModuleDict(parts)

    def forward(self, x: Tensor) -> Tensor:
        x = self.cpe[0](x)
        x = x + self.attn(self.norm1(x))
        local = self.local_mp
        y = local["conv2"](local["bn"](F.gelu(local["conv1"](self.norm3(x).permute(0, 3, 1, 2)))))
        x = x + y.permute(0, 2, 3, 1)
        return x + self.mlp(self.norm2(x))


class L2ViT(nn.Module):
    def __init__(self, dims: Sequence[int], depths: Sequence[int], head_dim: int, window: int, classes: int) -> None:
        super().__init__()
        half = dims[0] // 2
        first, second = nn.Conv2d(3, half, 3, 2, 1), nn.Conv2d(half, dims[0], 3, 2, 1)
        stem = nn.Sequential(first, nn.BatchNorm2d(half), nn.ReLU(), second, nn.BatchNorm2d(dims[0]))
        parts = [{"proj": nn.ModuleDict({"proj": stem}), "norm": nn.LayerNorm(dims[0])}]
        parts += [{"proj": nn.Conv2d(a, b, 2, 2), "norm": nn.LayerNorm(a)} for a, b in pairwise(dims)]
        self.downsample_layers = nn.ModuleList(nn.ModuleDict(part) for part in parts)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(L2Global(c, c // head_dim) if i % 2 else L2Window(c, c // head_dim, window) for i in range(depth))
            )
            for c, depth in zip(dims, depths, strict=True)
        )
        self.norm, self.head = nn.LayerNorm(dims[-1]), nn.Linear(dims[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        for s, (down, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            if s == 0:
                x = down["norm"](down["proj"]["proj"](x).permute(0, 2, 3, 1))
            else:
                x = on_map(down["proj"], down["norm"](x))
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))


def test_l2vit():
    toy = {"dims": [8, 16], "depths": [2, 3], "head_dim": 4, "window": 4, "classes": 5, "resolution": 32}
    network = load("l2vit.arch", variant="tiny", drop_path=0, **toy)
    agree(network, L2ViT([8, 16], [2, 3], 4, 4, 5).double(), network.map("official"), noise(2, 3, 32, 32))


# ---- RAVLT
def turned(x: Tensor, h: int, w: int) -> Tensor:
    """[b, heads, h w, c]: the first half of the pairs turns with the row, the second with the column."""
    count = x.shape[-1] // 4
    rate = 10000 ** -torch.linspace(0, 1, count, dtype=torch.float64)
    rows = torch.arange(h, dtype=torch.float64)[:, None, None] * rate
    columns = torch.arange(w, dtype=torch.float64)[None, :, None] * rate
    angle = torch.cat([rows.expand(h, w, count), columns.expand(h, w, count)], -1).flatten(0, 1)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


class Rala(nn.Module):
    def __init__(self, dim: int, heads: int, linear: bool) -> None:
        super().__init__()
        self.heads, self.linear = heads, linear
        self.qkvo, self.lepe, self.proj = nn.Conv2d(dim, 4 * dim, 1), filter_(dim, 5), nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        q, k, v, gate = self.qkvo(x).chunk(4, 1)
        local = self.lepe(v)
        q, k, v = (heads_of(part.permute(0, 2, 3, 1), self.heads) for part in (q, k, v))
        if self.linear:
            q, k = F.elu(q) + 1, F.elu(k) + 1
            alpha = h * w * (q.mean(2, keepdim=True) @ k.mT / math.sqrt(k.shape[-1])).softmax(-1).mT
            k = alpha * k
            state = turned(k, h, w).mT @ v / (h * w)
            y = turned(q, h, w) @ state / ((q * k.mean(2, keepdim=True)).sum(-1, keepdim=True) + 1e-6)
        else:
            y = softmax_attention(turned(q, h, w), turned(k, h, w), v)
        return self.proj((y.mT.flatten(1, 2).unflatten(-1, (h, w)) + local) * gate)


class RavltBlock(nn.Module):
    def __init__(self, dim: int, heads: int, ratio: float, linear: bool) -> None:
        super().__init__()
        wide = int(ratio * dim)
        self.norm1, self.norm2 = (nn.ModuleDict({"norm": nn.LayerNorm(dim, eps=1e-6)}) for _ in range(2))
        self.attn, self.pos = Rala(dim, heads, linear), filter_(dim)
        self.ffn = nn.ModuleDict(
            {"fc1": nn.Conv2d(dim, wide, 1), "fc2": nn.Conv2d(wide, dim, 1), "dwconv": filter_(wide)}
        )
        self.gamma_1, self.gamma_2 = (nn.Parameter(torch.ones(1, dim, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pos(x)
        x = x + self.gamma_1 * self.attn(self.norm1["norm"](x.movedim(1, -1)).movedim(-1, 1))
        y = F.gelu(self.ffn["fc1"](self.norm2["norm"](x.movedim(1, -1)).movedim(-1, 1)))
        return x + self.gamma_2 * self.ffn["fc2"](y + self.ffn["dwconv"](y))


class Ravlt(nn.Module):
    def __init__(
        self, dims: Sequence[int], depths: Sequence[int], heads: Sequence[int], linear: int, width: int, classes: int
    ) -> None:
        super().__init__()
        half = dims[0] // 2
        plan = [(3, half, 2), (half, half, 1), (half, half, 1), (half, dims[0], 2)]
        stem = [layer for a, b, s in plan for layer in (nn.Conv2d(a, b, 3, s, 1), nn.BatchNorm2d(b), nn.GELU())]
        self.patch_embed = nn.ModuleDict({"proj": nn.Sequential(*stem[:-1])})
        self.layers = nn.ModuleList()
        for s, (dim, depth, head) in enumerate(zip(dims, depths, heads, strict=True)):
            blocks = nn.Sequential(*(RavltBlock(dim, head, 3.5, s < linear) for _ in range(depth)))
            parts: dict[str, nn.Module] = {"blocks": blocks}
            if s + 1 < len(dims):
                reduction = nn.Conv2d(dim, dims[s + 1], 3, 2, 1)
                parts["downsample"] = nn.ModuleDict({"reduction": reduction, "norm": nn.BatchNorm2d(dims[s + 1])})
            self.layers.append(nn.ModuleDict(parts))
        self.proj, self.norm = nn.Conv2d(dims[-1], width, 1), nn.BatchNorm2d(width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed["proj"](x)
        for layer in self.layers:
            x = layer["blocks"](x)
            if "downsample" in layer:
                x = layer["downsample"]["norm"](layer["downsample"]["reduction"](x))
        return self.head(F.silu(self.norm(self.proj(x))).mean((2, 3), keepdim=True)).flatten(1)


def test_ravlt():
    toy = {"dims": [16, 32], "depths": [2, 1], "heads": [1, 2], "linear_stages": 1, "width": 12}
    network = load("ravlt.arch", variant="tiny", drop_path=0, classes=5, resolution=32, **toy)
    peer = Ravlt([16, 32], [2, 1], [1, 2], 1, 12, 5).double()
    agree(network, peer, network.map("official"), noise(3, 3, 32, 32))


# ---- SLAB
class RepNorm(nn.Module):
    """What runs of a progressive norm; the layer norm that it trained with is at hand, unused."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        norm = nn.BatchNorm1d(dim)
        self.norm2 = nn.ParameterDict({"alpha": nn.Parameter(torch.ones(1))})
        self.norm2.bn = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2.bn(x.flatten(0, -2)).view_as(x) + self.norm2["alpha"] * x


class SlabAttention(nn.Module):
    def __init__(self, dim: int, heads: int, count: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj, self.dwc = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), filter_(dim // heads, 5)
        self.positional_encoding = nn.Parameter(torch.zeros(1, count, dim))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        k = k + self.positional_encoding.view(x.shape[1:])
        local = torch.cat([on_map(self.dwc, part) for part in v.chunk(self.heads, -1)], -1)
        q, k, v = (heads_of(part, self.heads) for part in (q.relu(), k.relu(), v))
        total, weight = pairwise_linear(q, k, v)
        return self.proj(joined(total / (weight + 1e-6), x) + local)


class SlabBlock(nn.Module):
    def __init__(self, dim: int, heads: int, count: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp = RepNorm(dim), RepNorm(dim), Mlp(dim)
        self.attn = SlabAttention(dim, heads, count)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Slab(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, patch: int, side: int, classes: int) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, patch, patch)})
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2, dim))
        self.blocks = nn.Sequential(*(SlabBlock(dim, heads, side**2) for _ in range(depth)))
        self.norm, self.head = RepNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed["proj"](x).movedim(1, -1)
        x = self.blocks(x + self.pos_embed.view(x.shape[1:]))
        return self.head(self.norm(x).mean((1, 2)))


def test_slab():
    toy = {"dim": 12, "depth": 2, "heads": 3, "patch": 8, "resolution": 32, "classes": 5}
    network = load("slab.arch", variant="tiny", **toy)
    agree(network, Slab(12, 2, 3, 8, 4, 5).double(), network.map("official"), noise(3, 3, 32, 32))


# ---- ViG
class Rms(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.weight


def gated_scan(q: Tensor, k: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    """S <- diag(decay) S + k v^T, o = q S at one position after another of [b, heads, n, c]."""
    state, out = torch.zeros(*q.shape[:2], q.shape[-1], v.shape[-1], dtype=q.dtype), []
    for t in range(q.shape[2]):
        state = decay[:, :, t, :, None] * state + k[:, :, t, :, None] * v[:, :, t, None, :]
        out.append((q[:, :, t, :, None] * state).sum(-2))
    return torch.stack(out, 2)


class VigAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, key = heads, dim // 2
        self.in_proj = nn.Sequential(filter_(dim, bias=False), nn.SiLU())
        self.qkv_proj = nn.Linear(dim, 2 * key + dim, bias=False)
        self.gk_proj = nn.Sequential(nn.Linear(dim, 16, bias=False), nn.Linear(16, 2 * key))
        self.g_proj, self.o_proj = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.g_norm, self.l_norm = Rms(dim // heads), Rms(dim // heads)

    def forward(self, x: Tensor) -> Tensor:
        near, dim = on_map(self.in_proj, x), x.shape[-1]
        q, k, v = self.qkv_proj(near).split((dim // 2, dim // 2, dim), -1)
        there, back = (gate.sigmoid() ** (1 / 16) for gate in self.gk_proj(near).chunk(2, -1))
        q, k, v, there, back = (heads_of(part, self.heads) for part in (q, k, v, there, back))
        q = q / math.sqrt(q.shape[-1])
        far = gated_scan(q, k, v, there)
        far = (far + gated_scan(*(part.flip(2) for part in (q, k, v, back))).flip(2)) / 2
        mix, near_heads = heads_of(self.g_proj(near).sigmoid(), self.heads), heads_of(near, self.heads)
        y = mix * self.g_norm(far) + (1 - mix) * self.l_norm(near_heads)
        return self.o_proj(F.silu(joined(y, x)))


class VigBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn_norm, self.mlp_norm, self.attn = Rms(dim), Rms(dim), VigAttention(dim, heads)
        gate, down = nn.Linear(dim, 512, bias=False), nn.Linear(256, dim, bias=False)
        self.mlp = nn.ModuleDict({"gate_proj": gate, "down_proj": down})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.attn_norm(x))
        gate, up = self.mlp["gate_proj"](self.mlp_norm(x)).chunk(2, -1)
        return x + self.mlp["down_proj"](F.silu(gate) * up)


class Channels(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Vig(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, side: int, classes: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(3, dim // 2, 5, 4, 1), nn.Conv2d(dim // 2, dim, 3, 2, 1)
        stem = nn.Sequential(first, Channels(dim // 2), nn.SiLU(), second, Channels(dim))
        self.patch_embed = nn.ModuleDict({"proj": stem})
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2, dim))
        self.blocks = nn.Sequential(*(VigBlock(dim, heads) for _ in range(depth)))
        self.norm, self.head = Rms(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed["proj"](x).movedim(1, -1)
        x = self.blocks(x + self.pos_embed.view(x.shape[1:]))
        return self.head(self.norm(x).mean((1, 2)))


def test_vig():
    network = load("vig_gla.arch", variant="tiny", dim=12, depth=2, patch=8, resolution=32, classes=5, drop_path=0)
    agree(network, Vig(12, 2, 3, 4, 5).double(), network.map("official"), noise(2, 3, 32, 32))
