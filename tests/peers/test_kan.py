"""Learned functions against the equations of their papers, written out in double precision."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archlang.checkpoint import Key, WeightMap
from archlang.source import BUILTIN
from tests.peers.parity import agree, in_order, load, picture


class Rational(nn.Module):
    """sum of a_i x^i over 1 + sum of |b_j| |x|^j: one a, and a b for each group of channels."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.weight_numerator = nn.Parameter(torch.zeros(1, 6))
        self.weight_denominator = nn.Parameter(torch.zeros(groups, 4))

    def forward(self, x: Tensor) -> Tensor:
        b = self.weight_denominator.repeat_interleave(x.shape[-1] // len(self.weight_denominator), 0)
        above = sum(a * x**i for i, a in enumerate(self.weight_numerator[0]))
        below = 1 + sum(b[:, j].abs() * x.abs() ** (j + 1) for j in range(4))
        return above / below


class KanMlp(nn.Module):
    def __init__(self, dim: int, groups: int) -> None:
        super().__init__()
        self.act1, self.fc1 = Rational(groups), nn.Linear(dim, 4 * dim)
        self.act2, self.fc2 = Rational(groups), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act2(self.fc1(self.act1(x))))


def test_kat() -> None:
    """timm's ViT with the MLPs of the paper."""
    vit = pytest.importorskip("timm.models.vision_transformer")
    peer = vit.VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5)
    for block in peer.blocks:
        block.mlp = KanMlp(16, groups=4)
    settings = {"dim": 16, "depth": 2, "heads": 2, "groups": 4, "patch": 8, "resolution": 32, "classes": 5}
    network = load("kat.arch", variant="tiny", drop_path=0, **settings)
    agree(network, peer.double(), network.map("kat"), picture(32).double())


class SplineLayer(nn.Module):
    """silu(x) W + sum over splines of B(x) (weight scale), with the recursion of Cox and de Boor knot by knot."""

    def __init__(self, inputs: int, outputs: int, intervals: int = 5, degree: int = 3) -> None:
        super().__init__()
        knots = torch.linspace(-1 - 2 * degree / intervals, 1 + 2 * degree / intervals, intervals + 2 * degree + 1)
        self.register_buffer("grid", knots.repeat(inputs, 1))
        self.base_weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.spline_weight = nn.Parameter(torch.zeros(outputs, inputs, intervals + degree))
        self.spline_scaler = nn.Parameter(torch.zeros(outputs, inputs))
        self.degree = degree

    def spline(self, x: Tensor, knots: Tensor, k: int, degree: int) -> Tensor:
        if degree == 0:
            return ((knots[k] <= x) & (x < knots[k + 1])).to(x.dtype)
        rise = (x - knots[k]) / (knots[k + degree] - knots[k])
        fall = (knots[k + degree + 1] - x) / (knots[k + degree + 1] - knots[k + 1])
        return rise * self.spline(x, knots, k, degree - 1) + fall * self.spline(x, knots, k + 1, degree - 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(x) @ self.base_weight.T
        for i in range(x.shape[1]):
            for k in range(self.spline_weight.shape[2]):
                curve = self.spline(x[:, i], self.grid[i], k, self.degree)
                y = y + curve[:, None] * self.spline_scaler[:, i] * self.spline_weight[:, i, k]
        return y


class Network(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return x


def digits() -> Tensor:
    return torch.randn(8, 4, 4, generator=torch.Generator().manual_seed(2)).double()


def test_kan_of_splines() -> None:
    network = load("kan_mlp.arch", "kan_mlp", "digits", dims=[6, 3], size=4)
    peer = Network(SplineLayer(16, 6), SplineLayer(6, 3)).double()
    agree(network, peer, network.map("efficient_kan"), digits())


class GaussianLayer(nn.Module):
    """silu(x) W + b + sum over k of V_k e^-((norm(x) - g_k) / h)^2"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(inputs)
        self.spline_linear = nn.Linear(8 * inputs, outputs, bias=False)
        self.base_linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layernorm(x)
        weight = self.spline_linear.weight.view(len(self.base_linear.bias), -1, 8)
        y = self.base_linear(F.silu(x))
        for k in range(8):
            place = -2 + 4 * k / 7
            y = y + torch.exp(-(((z - place) / (4 / 7)) ** 2)) @ weight[:, :, k].T
        return y


def test_kan_of_gaussians() -> None:
    network = load("kan_mlp.arch", "fast_kan", "digits", dims=[6, 3], size=4)
    peer = Network(GaussianLayer(16, 6), GaussianLayer(6, 3)).double()
    agree(network, peer, network.map("fast_kan"), digits())


# ---- weights that are made, tile by tile
class Generator(nn.Module):
    """a_i = W_i z + B_i and K_i = W_out a_i + B_out, one after another for the channels i that a tile reads."""

    def __init__(self, side: int, code: int) -> None:
        super().__init__()
        self.first, self.second, self.side = nn.Linear(code, side * code), nn.Linear(code, side * 9), side

    def tile(self, z: Tensor) -> Tensor:
        rows, biases = self.first.weight.chunk(self.side), self.first.bias.chunk(self.side)
        a = [w @ z + b for w, b in zip(rows, biases, strict=True)]
        return torch.stack([(self.second.weight @ x + self.second.bias).view(self.side, 3, 3) for x in a], 1)

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([torch.cat([self.tile(z) for z in row], 1) for row in z])


class TiledConv(nn.Module):
    def __init__(self, before: int, dim: int, side: int, code: int) -> None:
        super().__init__()
        self.z, self.bias = nn.Parameter(torch.zeros(dim // side, before // side, code)), nn.Parameter(torch.zeros(dim))


class PreActivated(nn.Module):
    def __init__(self, before: int, dim: int, stride: int, side: int, code: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(before), TiledConv(before, dim, side, code)
        self.norm2, self.conv2 = nn.BatchNorm2d(dim), TiledConv(dim, dim, side, code)
        self.stride = stride

    def forward(self, x: Tensor, generator: Generator) -> Tensor:
        y = F.relu(self.norm1(x))
        y = F.conv2d(y, generator(self.conv1.z), self.conv1.bias, self.stride, padding=1)
        y = F.conv2d(F.relu(self.norm2(y)), generator(self.conv2.z), self.conv2.bias, padding=1)
        kept = x[:, :, :: self.stride, :: self.stride]
        return torch.cat([y[:, : x.shape[1]] + kept, y[:, x.shape[1] :]], 1)


class HyperResnet(nn.Module):
    def __init__(self, stem: int, width: int, depth: int, side: int, code: int) -> None:
        super().__init__()
        self.stem, self.generator = nn.Conv2d(3, stem, 3, padding=1), Generator(side, code)
        before, units = stem, []
        for group in range(3):
            for i in range(depth):
                dim = stem * width * 2**group
                units.append(PreActivated(before, dim, 2 if group and not i else 1, side, code))
                before = dim
        self.units = nn.ModuleList(units)
        self.norm, self.head = nn.BatchNorm2d(before), nn.Linear(before, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for unit in self.units:
            x = unit(x, self.generator)
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


@pytest.mark.parametrize("width", [1, 2])
def test_hyper_resnet(width: int) -> None:
    toy = {"depth": 2, "stem": 4, "side": 4, "code": 3, "resolution": 8, "classes": 5}
    network = load("hypernetwork.arch", "hyper_resnet", f"wrn_40_{width}", **toy)
    peer = HyperResnet(4, width, 2, 4, 3).double()
    agree(network, peer, in_order(network, peer), picture(8, 4).double())


# ---- weights that are made, sample by sample
class Hypernetwork(nn.Module):
    def __init__(self, dim: int, experts: int, code: int, units: int, rank: int = 8) -> None:
        super().__init__()
        self.table, self.trunk = nn.Embedding(5, code), nn.Linear(code, 2 * code)
        self.stem = nn.Conv2d(3, dim, 3, padding=1)
        self.bank, self.routing = nn.Parameter(torch.zeros(experts, dim, dim, 3, 3)), nn.Linear(dim, experts)
        self.norm1 = nn.BatchNorm2d(dim)
        self.reduce, self.span = nn.Linear(dim, dim // 4), nn.Linear(dim // 4, dim * 25)
        self.norm2 = nn.BatchNorm2d(dim)
        self.to_u, self.to_v = nn.Linear(2 * code, units * rank), nn.Linear(2 * code, dim * rank)
        self.to_shift, self.head = nn.Linear(2 * code, units), nn.Linear(units, 5)
        self.rank = rank

    def mixed(self, x: Tensor) -> Tensor:
        gates = torch.sigmoid(self.routing(x.mean((2, 3))))
        kernels = [sum(g * expert for g, expert in zip(gate, self.bank, strict=True)) for gate in gates]
        return torch.stack([F.conv2d(one[None], k, padding=1)[0] for one, k in zip(x, kernels, strict=True)])

    def depthwise(self, x: Tensor) -> Tensor:
        kernels = self.span(F.gelu(self.reduce(x.mean((2, 3))))).unflatten(1, (x.shape[1], 1, 5, 5))
        pairs = zip(x, kernels, strict=True)
        return torch.stack([F.conv2d(one[None], k, padding=2, groups=len(one))[0] for one, k in pairs])

    def forward(self, image: Tensor, task: Tensor) -> Tensor:
        about = F.relu(self.trunk(self.table(task)))
        x = F.relu(self.norm1(self.mixed(F.relu(self.stem(image)))))
        x = F.avg_pool2d(self.norm2(self.depthwise(x)), 4)
        made = []
        for one, told in zip(x, about, strict=True):
            u, v = self.to_u(told).view(-1, self.rank), self.to_v(told).view(-1, self.rank)
            made.append(F.relu(one.permute(1, 2, 0) @ v @ u.T + self.to_shift(told)))
        return self.head(torch.stack(made).mean((1, 2)))


def test_hypernetwork() -> None:
    settings = {"tasks": 5, "code": 4, "dim": 8, "experts": 3, "units": 6, "resolution": 16, "classes": 5}
    network = load("hypernetwork.arch", "hypernetwork", "small", **settings)
    peer = Hypernetwork(8, 3, 4, 6).double()
    blocks = re.compile(r"^(cond_conv|dynamic_depthwise|generated_linear)\.")
    weights = {path: (Key(blocks.sub("", path)), BUILTIN) for path in network.module().state_dict()}
    agree(network, peer, WeightMap("without blocks", weights, ()), picture(16).double(), torch.tensor([3, 0]))
