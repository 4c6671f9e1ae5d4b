"""Networks that differ in who sees whom, against published implementations and their equations."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from archlang.checkpoint import Key, WeightMap
from archlang.source import BUILTIN
from tests.peers.parity import agree, load, picture


def neighbors(size: int, kernel: int, dilation: int) -> Tensor:
    """index[i] holds the positions that i sees: those of its residue class around it, moved inwards at borders."""
    rows = []
    for i in range(size):
        own = list(range(i % dilation, size, dilation))
        start = min(max(own.index(i) - kernel // 2, 0), len(own) - kernel)
        rows.append(own[start : start + kernel])
    return torch.tensor(rows)


def gathered(x: Tensor, kernel: int, dilation: int) -> Tensor:
    """x[b, heads, h, w, c] as [b, heads, h, w, kernel * kernel, c]."""
    rows, columns = (neighbors(size, kernel, dilation) for size in x.shape[2:4])
    return x[:, :, rows[:, None, :, None], columns[None, :, None, :]].flatten(4, 5)


def scores(q: Tensor, k: Tensor, rpb: Tensor, kernel: int, dilation: int) -> Tensor:
    """What NATTEN's first kernel computes; transformers hands [b, w, h, heads, c] to it."""
    q, k = (x.permute(0, 3, 2, 1, 4) for x in (q, k))
    rows, columns = (
        (neighbors(size, kernel, dilation) - torch.arange(size)[:, None]) // dilation + kernel - 1
        for size in q.shape[2:4]
    )
    bias = rpb[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3)
    return (q[..., None, :] * gathered(k, kernel, dilation)).sum(-1) + bias


def values(weights: Tensor, v: Tensor, kernel: int, dilation: int) -> Tensor:
    """What its second kernel computes."""
    return (weights[..., None] * gathered(v.permute(0, 3, 2, 1, 4), kernel, dilation)).sum(4)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_dinat(scale: float | None, monkeypatch: pytest.MonkeyPatch):
    """The model of transformers around the equations of the kernels, which do not run here."""
    module: Any = pytest.importorskip("transformers.models.dinat.modeling_dinat")
    monkeypatch.setattr(module, "natten2dqkrpb", scores)
    monkeypatch.setattr(module, "natten2dav", values)
    monkeypatch.setattr(module, "requires_backends", lambda *_: None)
    sizes = {"depths": [2, 3], "kernel": 3, "resolution": 44, "classes": 10, "drop_path": 0}
    network = load("dinat.arch", dim=16, farthest=[3, 2], head_dim=8, scale=scale, **sizes)
    config = module.DinatConfig(
        embed_dim=16, depths=[2, 3], num_heads=[2, 4], kernel_size=3, dilations=[[1, 3], [1, 2, 1]], num_labels=10,
        drop_path_rate=0.0, layer_scale_init_value=scale or 0.0,
    )  # fmt: skip
    agree(network, module.DinatForImageClassification(config), network.map("transformers"), picture(44))


class Stripes(nn.Module):
    """Attention in stripes of rows x columns, with the depthwise convolution of each stripe of values."""

    def __init__(self, dim: int, heads: int, rows: int, columns: int) -> None:
        super().__init__()
        self.heads, self.rows, self.columns = heads, rows, columns
        self.get_v = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(v)
        for i in range(0, v.shape[1], self.rows):
            for j in range(0, v.shape[2], self.columns):
                part = (slice(None), slice(i, i + self.rows), slice(j, j + self.columns))
                out[part] = self.stripe(q[part], k[part], v[part])
        return out

    def stripe(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        lepe = self.get_v(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        flat = [x.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v)]
        weights = (flat[0] @ flat[1].mT / flat[0].shape[-1] ** 0.5).softmax(-1)
        return (weights @ flat[2]).transpose(1, 2).reshape(v.shape) + lepe


class CrossBlock(nn.Module):
    def __init__(self, dim: int, heads: int, size: int, width: int) -> None:
        super().__init__()
        self.norm1, self.qkv, self.proj = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        shapes = [(size, size)] if width >= size else [(size, width), (width, size)]
        self.attns = nn.ModuleList(Stripes(dim // len(shapes), heads // len(shapes), *shape) for shape in shapes)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.chunk(len(self.attns), -1) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.proj(torch.cat([attn(*part) for attn, *part in zip(self.attns, q, k, v, strict=True)], -1))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class Cross(nn.Module):
    """CSWin Transformer as its paper has it, with the names of the published weights."""

    def __init__(
        self, dim: int, depths: list[int], heads: list[int], widths: list[int], size: int, classes: int
    ) -> None:
        super().__init__()
        embed = [nn.Conv2d(3, dim, 7, stride=4, padding=2), nn.Identity(), nn.LayerNorm(dim)]
        self.stage1_conv_embed, self.depths = nn.ModuleList(embed), depths
        for s, (depth, head, width) in enumerate(zip(depths, heads, widths, strict=True)):
            if s > 0:
                merge = {"conv": nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1), "norm": nn.LayerNorm(dim)}
                setattr(self, f"merge{s}", nn.ModuleDict(merge))
            blocks = nn.ModuleList(CrossBlock(dim, head, size // 4 // 2**s, width) for _ in range(depth))
            setattr(self, f"stage{s + 1}", blocks)
            dim = 2 * dim
        self.norm, self.head = nn.LayerNorm(dim // 2), nn.Linear(dim // 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1_conv_embed[2](self.stage1_conv_embed[0](x).permute(0, 2, 3, 1))
        for s in range(len(self.depths)):
            if s > 0:
                merge = getattr(self, f"merge{s}")
                x = merge["norm"](merge["conv"](x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
            for block in getattr(self, f"stage{s + 1}"):
                x = block(x)
        return self.head(self.norm(x).mean((1, 2)))


def test_cswin():
    sizes: dict[str, Any] = {"depths": [2, 1, 1], "heads": [2, 4, 2], "widths": [1, 2, 2]}
    network = load("cswin.arch", dim=8, resolution=32, classes=10, drop_path=0, **sizes)
    peer = Cross(8, **sizes, size=32, classes=10).double()
    agree(network, peer, network.map("microsoft"), picture(32).double())


class ConvUnit(nn.Module):
    """A linear map plus a depthwise convolution of it along the sequence."""

    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        self.g, self.linear = nn.Parameter(torch.ones(())), nn.Linear(dim, units)
        self.conv = nn.Conv1d(units, units, 17, padding=8, groups=units, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x / (x.norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5) * self.g)
        x = x * x.sigmoid()
        return x + self.conv(x.mT).mT


class Joint(nn.Module):
    """Squared rectified attention in chunks plus linear attention, with the loops that the equations have."""

    def __init__(self, dim: int, size: int, group: int, turned: int) -> None:
        super().__init__()
        self.gamma, self.beta = (nn.Parameter(torch.randn(4, size)) for _ in range(2))
        self.to_hidden, self.to_qk, self.to_out = ConvUnit(dim, 4 * dim), ConvUnit(dim, size), ConvUnit(2 * dim, dim)
        self.group, self.turned = group, turned

    def forward(self, x: Tensor) -> Tensor:
        moved = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        half = x.shape[-1] - x.shape[-1] // 2
        y = torch.cat([moved[..., :half], x[..., half:]], -1)
        v, u = self.to_hidden(y).chunk(2, -1)
        near_q, far_q, near_k, far_k = (
            self.turn(self.to_qk(y) * g + b) for g, b in zip(self.gamma, self.beta, strict=True)
        )
        seen = []
        for value in (v, u):
            out = far_q @ (far_k.mT @ value) / x.shape[1]
            for start in range(0, x.shape[1], self.group):
                part = slice(start, start + self.group)
                out[:, part] += ((near_q[:, part] @ near_k[:, part].mT) / self.group).relu() ** 2 @ value[:, part]
            seen.append(out)
        return x + self.to_out((seen[1] * v) * (seen[0] * u).sigmoid())

    def turn(self, x: Tensor) -> Tensor:
        x = x.clone()
        for i in range(0, self.turned, 2):
            angle = torch.arange(x.shape[1], dtype=x.dtype) * 10000 ** (-i / self.turned)
            a, b = x[..., i].clone(), x[..., i + 1].clone()
            x[..., i], x[..., i + 1] = a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()
        return x


class Moss(nn.Module):
    """MossFormer as its paper has it: an encoder, a network of masks, a decoder."""

    def __init__(self, dim: int, depth: int, kernel: int, size: int, group: int, turned: int, speakers: int) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, dim, kernel, kernel // 2, bias=False)
        self.norm, self.bottleneck = nn.GroupNorm(1, dim), nn.Linear(dim, dim, bias=False)
        self.place_scale, self.out_norm = nn.Parameter(torch.ones(())), nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(Joint(dim, size, group, turned) for _ in range(depth))
        self.act, self.split_up, self.speakers = nn.PReLU(), nn.Linear(dim, speakers * dim), speakers
        self.value, self.gate = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.decode = nn.Linear(dim, dim, bias=False)
        self.decoder = nn.ConvTranspose1d(dim, 1, kernel, kernel // 2, bias=False)

    def forward(self, mixture: Tensor) -> Tensor:
        features = self.encoder(mixture[:, None]).relu()
        x = self.bottleneck(self.norm(features).mT)
        rates = 10000 ** (-torch.arange(0, x.shape[2], 2, dtype=x.dtype) / x.shape[2])
        angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * rates
        y = x + self.place_scale * torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
        for block in self.blocks:
            y = block(y)
        parts = self.split_up(self.act(x + self.out_norm(y))).chunk(self.speakers, -1)
        voices = []
        for part in parts:
            mask = self.decode(self.value(part).tanh() * self.gate(part).sigmoid()).relu()
            voices.append(self.decoder(features * mask.mT)[:, 0])
        return torch.stack(voices, 1)


def test_mossformer():
    sizes = {"dim": 8, "depth": 2, "kernel": 4, "size": 6, "group": 4, "turned": 4, "speakers": 2}
    network = load("mossformer.arch", **sizes)
    peer = Moss(**sizes).double()
    weights = {
        ours: ours.replace(".norm.g", ".g").replace(".joint_attention", "") for ours in network.module().state_dict()
    }
    map_ = WeightMap("by name", {ours: (Key(theirs), BUILTIN) for ours, theirs in weights.items()}, ())
    agree(network, peer, map_, torch.randn(2, 46, generator=torch.Generator().manual_seed(2)).double())
