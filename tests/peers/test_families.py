"""Families of mixers beside published implementations, or beside the equations of their papers in double precision."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import archlang
from tests.peers.parity import agree, in_order, load, noise, picture, timm


# ---- FocalNet
@pytest.mark.parametrize(("variant", "levels"), [("tiny_srf", 2), ("tiny_lrf", 3)])
def test_focalnet_of_timm(variant: str, levels: int):
    toy = {"dim": 16, "depths": [1, 2], "classes": 10}
    network = load("focalnet.arch", variant=variant, drop_path=0, resolution=64, **toy)
    models = pytest.importorskip("timm.models.focalnet")
    settings = {"focal_levels": (levels, levels), "focal_windows": (3, 3), "drop_path_rate": 0.0}
    peer = models.FocalNet(embed_dim=16, depths=(1, 2), num_classes=10, **settings)
    agree(network, peer, network.map("timm"), picture(64))


def test_focalnet_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.FocalNetConfig(
        image_size=64, embed_dim=16, depths=[1, 2], focal_levels=[2, 2], focal_windows=[3, 3], drop_path_rate=0.0,
        num_labels=10,
    )  # fmt: skip
    toy = {"dim": 16, "depths": [1, 2], "classes": 10}
    network = load("focalnet.arch", variant="tiny_srf", drop_path=0, resolution=64, **toy)
    peer = transformers.FocalNetForImageClassification(config)
    agree(network, peer, network.map("transformers"), picture(64))


# ---- XCiT
@pytest.mark.parametrize("variant", ["nano_12", "tiny_12"])
def test_xcit_of_timm(variant: str):
    network = load("xcit.arch", variant=variant, dim=32, depth=2, heads=4, classes=10, resolution=64)
    settings = {"embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 10, "img_size": 64}
    agree(network, timm(f"xcit_{variant}_p16_224", **settings), network.map("timm"), picture(64))


# ---- DaViT and VOLO
def test_davit_of_timm():
    toy = {"dims": [8, 16], "depths": [1, 2], "heads": [2, 4], "window": 4, "classes": 5}
    network = load("davit.arch", drop_path=0, resolution=32, **toy)
    models = pytest.importorskip("timm.models.davit")
    peer = models.DaVit(depths=(1, 2), embed_dims=(8, 16), num_heads=(2, 4), window_size=4, num_classes=5)
    agree(network, peer, network.map("timm"), picture(32))


def test_volo_of_timm():
    toy = {"dims": [8, 16], "depths": [1, 1, 1, 1], "heads": [2, 4], "stem": 8, "classes": 5}
    network = load("volo.arch", drop_path=0, resolution=32, **toy)
    models = pytest.importorskip("timm.models.volo")
    settings = {"embed_dims": [8, 16, 16, 16], "num_heads": [2, 4, 4, 4], "stem_hidden_dim": 8, "num_classes": 5}
    peer = models.VOLO(layers=[1, 1, 1, 1], img_size=32, **settings)
    agree(network, peer, network.map("timm"), picture(32))


# ---- VAN
class Gating(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, dilation=3, groups=dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv1(self.conv_spatial(self.conv0(x)))


class VanBlock(nn.Module):
    def __init__(self, dim: int, ratio: int) -> None:
        super().__init__()
        wide = dim * ratio
        self.norm1, self.norm2 = nn.BatchNorm2d(dim), nn.BatchNorm2d(dim)
        self.attn = nn.ModuleDict(
            {"proj_1": nn.Conv2d(dim, dim, 1), "spatial_gating_unit": Gating(dim), "proj_2": nn.Conv2d(dim, dim, 1)}
        )
        filter_ = nn.ModuleDict({"dwconv": nn.Conv2d(wide, wide, 3, padding=1, groups=wide)})
        self.mlp = nn.ModuleDict({"fc1": nn.Conv2d(dim, wide, 1), "dwconv": filter_, "fc2": nn.Conv2d(wide, dim, 1)})
        self.layer_scale_1, self.layer_scale_2 = (nn.Parameter(torch.ones(dim)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        z = self.attn["proj_2"](self.attn["spatial_gating_unit"](F.gelu(self.attn["proj_1"](y))))
        x = x + self.layer_scale_1[:, None, None] * (y + z)
        y = self.mlp["dwconv"]["dwconv"](self.mlp["fc1"](self.norm2(x)))
        return x + self.layer_scale_2[:, None, None] * self.mlp["fc2"](F.gelu(y))


class Van(nn.Module):
    def __init__(self, dims: tuple[int, ...], depths: tuple[int, ...], ratios: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.count = len(dims)
        for s, (before, dim) in enumerate(pairwise((3, *dims)), start=1):
            kernel, stride = (7, 4) if s == 1 else (3, 2)
            proj = nn.Conv2d(before, dim, kernel, stride, kernel // 2)
            setattr(self, f"patch_embed{s}", nn.ModuleDict({"proj": proj, "norm": nn.BatchNorm2d(dim)}))
            setattr(self, f"block{s}", nn.Sequential(*(VanBlock(dim, ratios[s - 1]) for _ in range(depths[s - 1]))))
            setattr(self, f"norm{s}", nn.LayerNorm(dim, eps=1e-6))
        self.head = nn.Linear(dims[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        for s in range(1, self.count + 1):
            embed = getattr(self, f"patch_embed{s}")
            x = getattr(self, f"block{s}")(embed["norm"](embed["proj"](x)))
            x = getattr(self, f"norm{s}")(x.movedim(1, -1)).movedim(-1, 1)
        return self.head(x.mean((2, 3)))


def test_van():
    toy = {"dims": [8, 16], "depths": [1, 2], "ratios": [4, 2], "classes": 6, "resolution": 48, "drop_path": 0}
    network = load("van.arch", variant="b0", **toy)
    agree(network, Van((8, 16), (1, 2), (4, 2), 6).double(), network.map("official"), noise(2, 3, 48, 48))


# ---- LSNet
def normed(a: int, b: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, kernel, stride, kernel // 2, 1, groups, bias=False), nn.BatchNorm2d(b))


class Focus(nn.Module):
    """At each position a 3 x 3 kernel for every eighth of the channels, from a wide view; channels take turns."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.cv1, self.cv2, self.cv3 = normed(dim, half), normed(half, half, 7, groups=half), normed(half, half)
        self.cv4, self.norm = nn.Conv2d(half, 9 * dim // 8, 1), nn.GroupNorm(dim // 8, 9 * dim // 8)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.norm(self.cv4(torch.relu(self.cv3(self.cv2(torch.relu(self.cv1(x)))))))
        weight = weight.unflatten(1, (-1, 3, 3)).repeat(1, 8, 1, 1, 1, 1)  # channel c has kernel c mod groups
        h, w = x.shape[2:]
        padded, total = F.pad(x, (1, 1, 1, 1)), torch.zeros_like(x)
        for i in range(3):
            for j in range(3):
                total = total + weight[:, :, i, j] * padded[:, :, i : i + h, j : j + w]
        return x + self.bn(total)


class Small(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv, self.conv1 = normed(dim, dim, 3, groups=dim), normed(dim, dim, groups=dim)
        self.fc1, self.fc2 = nn.Linear(dim, dim // 4), nn.Linear(dim // 4, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) + self.conv1(x) + x
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))[..., None, None]


class Near(nn.Module):
    """Attention whose bias knows |dy| and |dx|."""

    def __init__(self, dim: int, heads: int, key: int, side: int) -> None:
        super().__init__()
        self.heads, self.key = heads, key
        self.qkv, self.dw = normed(dim, 2 * heads * key + dim), normed(heads * key, heads * key, 3, groups=heads * key)
        self.bias, self.proj = nn.Embedding(side * side, heads), normed(dim, dim)
        place = torch.arange(side)
        away = (place[:, None] - place).abs()
        self.index = (away[:, None, :, None] * side + away[None, :, None, :]).flatten(2).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.heads * self.key
        q, k, v = self.qkv(x).split((wide, wide, x.shape[1]), 1)
        q, k, v = (part.flatten(2).unflatten(1, (self.heads, -1)) for part in (self.dw(q), k, v))
        weights = (q.mT @ k / math.sqrt(self.key) + self.bias(self.index).movedim(-1, 0)).softmax(-1)
        return x + self.proj(torch.relu((v @ weights.mT).flatten(1, 2).view_as(x)))


class LsBlock(nn.Module):
    def __init__(self, dim: int, mixer: nn.Module) -> None:
        super().__init__()
        self.mixer, self.pw1, self.pw2 = mixer, normed(dim, 2 * dim), normed(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixer(x)
        return x + self.pw2(torch.relu(self.pw1(x)))


class LsNet(nn.Module):
    def __init__(self, dim: int, depths: tuple[int, ...], heads: int, key: int, side: int, classes: int) -> None:
        super().__init__()
        stem = [normed(3, dim // 4, 3, 2), nn.ReLU(), normed(dim // 4, dim // 2, 3, 2), nn.ReLU()]
        layers = [*stem, normed(dim // 2, dim, 3, 2)]
        for s, depth in enumerate(depths):
            layers += [] if s == 0 else [normed(dim, dim, 3, 2, dim), normed(dim, dim)]
            for i in range(depth):
                mixed = Focus(dim) if s < 3 else Near(dim, heads, key, side)
                layers.append(LsBlock(dim, mixed if i % 2 else Small(dim)))
        self.layers = nn.Sequential(*layers)
        self.norm, self.head = nn.BatchNorm1d(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(x).mean((2, 3))))


def test_lsnet():
    toy = {"dims": [16] * 4, "depths": [0, 2, 0, 2], "heads": 2, "key": 4, "resolution": 96, "classes": 5}
    network, peer = load("lsnet.arch", variant="tiny", **toy), LsNet(16, (0, 2, 0, 2), 2, 4, 2, 5).double()
    agree(network, peer, in_order(network, peer), noise(3, 3, 96, 96))


# ---- DiT
def waves(position: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The sine and the cosine of the angles of positions."""
    rate = 10000 ** (-2 * torch.arange(dim // 2, dtype=torch.float64) / dim)
    return torch.sin(position[:, None] * rate), torch.cos(position[:, None] * rate)


class DitBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c)[:, None].chunk(6, -1)
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale1) + shift1
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.attn["qkv"](y).chunk(3, -1))
        weights = torch.einsum("bihc,bjhc->bhij", q, k).div(math.sqrt(q.shape[-1])).softmax(-1)
        x = x + gate1 * self.attn["proj"](torch.einsum("bhij,bjhc->bihc", weights, v).flatten(2))
        y = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale2) + shift2
        return x + gate2 * self.mlp["fc2"](F.gelu(self.mlp["fc1"](y), approximate="tanh"))


class Dit(nn.Module):
    def __init__(self, dim: int, depth: int, heads: int, channels: int, classes: int) -> None:
        super().__init__()
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(channels, dim, 2, 2)})
        self.t_embedder = nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(256, dim), nn.SiLU(), nn.Linear(dim, dim))})
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, dim)})
        self.blocks = nn.ModuleList(DitBlock(dim, heads) for _ in range(depth))
        out = nn.Linear(dim, 2 * 2 * 2 * channels)
        modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.final_layer = nn.ModuleDict({"linear": out, "adaLN_modulation": modulation})

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        x = self.x_embedder["proj"](x).movedim(1, -1)
        dim, side = x.shape[-1], x.shape[1]
        line = torch.cat(waves(torch.arange(side, dtype=torch.float64), dim // 2), -1)
        place = torch.cat([line[None].expand(side, -1, -1), line[:, None].expand(-1, side, -1)], -1)
        x = (x + place).flatten(1, 2)
        c = self.t_embedder["mlp"](torch.cat(waves(t, 256)[::-1], -1)) + self.y_embedder["embedding_table"](label)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.final_layer["adaLN_modulation"](c)[:, None].chunk(2, -1)
        y = self.final_layer["linear"](F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)
        y = y.unflatten(1, (side, side)).unflatten(-1, (2, 2, -1))
        return torch.einsum("nhwpqc->nchpwq", y).flatten(4, 5).flatten(2, 3)


def test_dit():
    toy = {"dim": 32, "depth": 2, "heads": 4, "channels": 3, "classes": 5, "side": 8, "label_drop": 0}
    network = load("dit.arch", variant="S_2", **toy)
    times, labels = torch.tensor([3.0, 411.5], dtype=torch.float64), torch.tensor([4, 5])
    agree(network, Dit(32, 2, 4, 3, 5).double(), network.map("official"), noise(2, 3, 8, 8), times, labels)


# ---- iTransformer
class Variates(nn.Module):
    """A layer among the tokens of variates."""

    def __init__(self, dim: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        names = ("query_projection", "key_projection", "value_projection", "out_projection")
        self.attention = nn.ModuleDict({name: nn.Linear(dim, dim) for name in names})
        self.conv1, self.conv2 = nn.Conv1d(dim, hidden, 1), nn.Conv1d(hidden, dim, 1)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.attention[f"{name}_projection"](x) for name in ("query", "key", "value"))
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        weights = torch.einsum("bihc,bjhc->bhij", q, k).div(math.sqrt(q.shape[-1])).softmax(-1)
        seen = torch.einsum("bhij,bjhc->bihc", weights, v).flatten(2)
        x = self.norm1(x + self.attention["out_projection"](seen))
        return self.norm2(x + self.conv2(F.gelu(self.conv1(x.mT))).mT)


class ITransformer(nn.Module):
    def __init__(self, past: int, future: int, dim: int, hidden: int, heads: int, depth: int) -> None:
        super().__init__()
        self.enc_embedding = nn.ModuleDict({"value_embedding": nn.Linear(past, dim)})
        layers = nn.ModuleList(Variates(dim, hidden, heads) for _ in range(depth))
        self.encoder = nn.ModuleDict({"attn_layers": layers, "norm": nn.LayerNorm(dim)})
        self.projector = nn.Linear(dim, future)

    def forward(self, series: Tensor, marks: Tensor) -> Tensor:
        mean = series.mean(1, keepdim=True)
        deviation = ((series - mean).square().mean(1, keepdim=True) + 1e-5).sqrt()
        x = self.enc_embedding["value_embedding"](torch.cat([(series - mean) / deviation, marks], -1).mT)
        for layer in self.encoder["attn_layers"]:
            x = layer(x)
        future = self.projector(self.encoder["norm"](x)).mT[..., : series.shape[-1]]
        return future * deviation + mean


def test_itransformer():
    toy = {"lookback": 12, "horizon": 6, "covariates": 2, "dim": 16, "hidden": 24, "heads": 4, "drop": 0}
    network = load("itransformer.arch", variant="solar", **toy)
    peer = ITransformer(12, 6, 16, 24, 4, 2).double()
    agree(network, peer, network.map("official"), noise(3, 12, 5), noise(3, 12, 2, seed=6))


# ---- filters
def test_blur_pool_of_timm():
    layers = pytest.importorskip("timm.layers")
    text = "use std.conv: blur_pool\nmodel net { input x: [b, c = 3, h = 9, w = 8]\noutput y = x -> blur_pool }"
    module, x = archlang.loads(text).architecture().module(), picture(9)[..., :8]
    torch.testing.assert_close(module(x), layers.BlurPool2d(3)(x))


def test_standard_conv_of_timm():
    layers = pytest.importorskip("timm.layers")
    text = (
        "use std.conv: standard_conv\nmodel net { input x: [b, c = 3, h = 9, w = 8]\noutput y = x -> standard_conv(6) }"
    )
    module, peer, x = archlang.loads(text).architecture().module(), layers.StdConv2d(3, 6, 3, padding=1), picture(9)
    peer.load_state_dict({"weight": module.state_dict()["standard_conv.weight"]})
    torch.testing.assert_close(module(x[..., :8]), peer(x[..., :8]))
