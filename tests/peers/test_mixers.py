"""Networks without attention, and TokenFormer: against timm, and against the equations of the papers in double
precision.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archlang.checkpoint import Key, WeightMap
from archlang.source import BUILTIN
from tests.peers.parity import agree, load, picture


# ---- timm
@pytest.mark.parametrize(("file", "ratio"), [("mlp_mixer.arch", (0.5, 4.0)), ("gmlp.arch", 6)])
def test_timm(file: str, ratio: float | tuple[float, float]) -> None:
    made = pytest.importorskip("timm.models.mlp_mixer")
    kind = {"block_layer": made.SpatialGatingBlock, "mlp_layer": made.GatedMlp} if file == "gmlp.arch" else {}
    peer = made.MlpMixer(5, 32, 3, 8, num_blocks=2, embed_dim=16, mlp_ratio=ratio, **kind)
    network = load(file, dim=16, depth=2, patch=8, resolution=32, classes=5)
    agree(network, peer, network.map("timm"), picture(32))


# ---- RaftMLP
def two_layers(size: int, factor: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, factor * size), nn.GELU(), nn.Linear(factor * size, size))


class RaftBlock(nn.Module):
    """Rafts of `r` channels, which are dim / r apart, lie along the columns, then along the rows of a map."""

    def __init__(self, dim: int, size: int, r: int) -> None:
        super().__init__()
        self.r = r
        self.norm_v, self.vertical = nn.LayerNorm((r, dim // r)), two_layers(r * size, 2)
        self.norm_h, self.horizontal = nn.LayerNorm((r, dim // r)), two_layers(r * size, 2)
        self.norm_c, self.channel = nn.LayerNorm(dim), two_layers(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        y = x.view(b, h, w, self.r, c // self.r)
        for norm, mlp, along in ((self.norm_v, self.vertical, 1), (self.norm_h, self.horizontal, 2)):
            rafts = norm(y).movedim((3, along), (-2, -1))  # the raft, and behind it the places along the axis
            y = y + mlp(rafts.flatten(-2)).view(rafts.shape).movedim((-2, -1), (3, along))
        x = y.reshape(x.shape)
        return x + self.channel(self.norm_c(x))


class RaftLevel(nn.Module):
    def __init__(self, inputs: int, dim: int, kernels: list[int], size: int, depth: int) -> None:
        super().__init__()
        self.kernels = kernels
        self.fc = nn.Linear(inputs * sum(k * k for k in kernels), dim)
        self.blocks = nn.Sequential(*(RaftBlock(dim, size, 2) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        stride, size = self.kernels[0], x.shape[-1] // self.kernels[0]
        seen = [F.unfold(x, k, padding=(k - stride) // 2, stride=stride) for k in self.kernels]
        y = self.fc(torch.cat(seen, 1).transpose(1, 2)).unflatten(1, (size, size))
        return self.blocks(y).permute(0, 3, 1, 2)


class RaftMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Sequential(RaftLevel(3, 8, [4, 8], 8, 1), RaftLevel(8, 12, [2], 4, 2))
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.levels(x).permute(0, 2, 3, 1)).mean((1, 2)))


def test_raft_mlp() -> None:
    settings = {"dims": [8, 12], "depths": [1, 2], "kernels": [[4, 8], [2]], "resolution": 32, "classes": 5}
    network, peer = load("raft_mlp.arch", variant="small", drop_path=0, **settings), RaftMlp().double()
    pairs = zip(network.module().state_dict(), peer.state_dict(), strict=True)
    weights = WeightMap("in order", {ours: (Key(theirs), BUILTIN) for ours, theirs in pairs}, ())
    agree(network, peer, weights, picture(32).double())


# ---- NiNformer
class Net(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, dim), nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Gate(nn.Module):
    """u * v, u a linear map of the tokens, v a mixer layer of them."""

    def __init__(self, dim: int, tokens: int, hidden: int) -> None:
        super().__init__()
        token_mix = nn.ModuleList([nn.LayerNorm(dim), nn.Identity(), Net(tokens, hidden)])
        channel_mix = nn.ModuleList([nn.LayerNorm(dim), Net(dim, hidden)])
        self.Mixer = nn.ModuleDict({"token_mix": token_mix, "channel_mix": channel_mix})
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        norm, _, mix = self.Mixer["token_mix"]
        v = x + mix(norm(x).mT).mT
        norm, mix = self.Mixer["channel_mix"]
        return self.proj(x) * (v + mix(norm(v)))


class Nin(nn.Module):
    def __init__(self, dim: int, tokens: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.mgu, self.ffn = nn.LayerNorm(dim), Gate(dim, tokens, hidden), Net(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mgu(self.norm(x))
        return x + self.ffn(self.norm(x))


class Ninformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patcher, self.classifier = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 5)
        self.model = nn.Sequential(*(Nin(8, 16, 12) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.model(self.patcher(x).flatten(2).mT).mean(1))


def test_ninformer() -> None:
    network = load(
        "ninformer.arch", variant="cifar10", dim=8, hidden=12, depth=2, patch=8, resolution=32, classes=5, drop=0
    )
    agree(network, Ninformer().double(), network.map("published"), picture(32).double())


# ---- TokenFormer
class Pattention(nn.Module):
    """f(x K^T / |x K^T| sqrt(n)) V, f = gelu, for n tokens."""

    def __init__(self, dim: int, tokens: int) -> None:
        super().__init__()
        self.key_param_tokens = nn.Parameter(torch.zeros(tokens, dim))
        self.value_param_tokens = nn.Parameter(torch.zeros(tokens, dim))

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.einsum("btc,nc->btn", x, self.key_param_tokens)
        length = scores.square().sum(-1, keepdim=True).sqrt()
        z = scores / length * len(self.key_param_tokens) ** 0.5
        return (z * (1 + torch.erf(z / 2**0.5)) / 2) @ self.value_param_tokens


class TokenLayer(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict({name: Pattention(dim, dim) for name in ("query", "key", "value", "proj")})
        self.mlp = Pattention(dim, 4 * dim)

    def turned(self, x: Tensor) -> Tensor:
        """The first quarter of each head, as pairs (i, i + half), turned by t 10000^(-i / half)."""
        part = x.shape[-1] // 4
        angles = torch.arange(x.shape[1])[:, None] * 10000 ** (-torch.arange(0, part, 2).double() / part)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        a, b, rest = x[..., : part // 2], x[..., part // 2 : part], x[..., part:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x, x.shape[-1:])
        q, k, v = (self.attention[name](y).unflatten(-1, (self.heads, -1)) for name in ("query", "key", "value"))
        scores = torch.einsum("bihc,bjhc->bhij", self.turned(q), self.turned(k)) / q.shape[-1] ** 0.5
        past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        o = torch.einsum("bhij,bjhc->bihc", scores.masked_fill(~past, -torch.inf).softmax(-1), v)
        x = x + self.attention["proj"](o.flatten(2))
        return x + self.mlp(F.layer_norm(x, x.shape[-1:]))


class TokenFormer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first = nn.ModuleDict({"word_embeddings": nn.Embedding(30, 32)})
        last = nn.ModuleDict({"norm": nn.LayerNorm(32)})
        layers = [TokenLayer(32, 2) for _ in range(2)]
        self.sequential = nn.ModuleList([first, nn.Identity(), *layers, nn.Identity(), last])

    def forward(self, ids: Tensor) -> Tensor:
        embed = self.sequential[0]["word_embeddings"]
        x = embed(ids)
        for layer in self.sequential[2:-2]:
            x = layer(x)
        return self.sequential[-1]["norm"](x) @ embed.weight.T


def test_tokenformer() -> None:
    network = load("tokenformer.arch", variant="small", vocab=30, dim=32, depth=2, heads=2)
    ids = torch.randint(0, 30, (2, 11), generator=torch.Generator().manual_seed(2))
    agree(network, TokenFormer().double(), network.map("published"), ids)
