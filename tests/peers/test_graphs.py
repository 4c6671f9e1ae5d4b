"""Memories and graphs beside the equations of their papers in double precision."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.peers.parity import agree, in_order, load, noise


# ---- Hopfield
class Retrieve(nn.Module):
    """One state after another, softmax(beta R Y^T) Y, then the content in the place of Y."""

    def __init__(self, dim: int, heads: int, key: int, steps: int) -> None:
        super().__init__()
        self.heads, self.beta, self.steps = heads, 1 / math.sqrt(key), steps
        self.norm_state, self.q = nn.LayerNorm(dim), nn.Linear(dim, heads * key)
        self.norm_stored, self.k = nn.LayerNorm(dim), nn.Linear(dim, heads * key)
        self.norm_content, self.v = nn.LayerNorm(dim), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, state: Tensor, stored: Tensor, content: Tensor) -> Tensor:
        heads = []
        r, y, v = self.q(self.norm_state(state)), self.k(self.norm_stored(stored)), self.v(self.norm_content(content))
        for xi, keys, values in zip(*(part.chunk(self.heads, -1) for part in (r, y, v)), strict=True):
            for _ in range(self.steps - 1):
                xi = (self.beta * xi @ keys.mT).softmax(-1) @ keys
            heads.append((self.beta * xi @ keys.mT).softmax(-1) @ values)
        return self.out(torch.cat(heads, -1))


class Bags(nn.Module):
    def __init__(self, features: int, dim: int, heads: int, key: int, patterns: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, dim)
        self.stored, self.content = (nn.Parameter(torch.zeros(patterns, dim)) for _ in range(2))
        self.lookup = Retrieve(dim, heads, key, 1)
        self.query = nn.Parameter(torch.zeros(1, dim))
        self.pool = Retrieve(dim, heads, key, 3)
        self.head = nn.Linear(dim, 1)

    def state_dict(self, *args: object, **settings: object) -> dict[str, Tensor]:  # type: ignore[override]
        """In our order: weights of its own stand where they are used."""
        found = super().state_dict(*args, **settings)  # type: ignore[arg-type]
        keys = ["embed", "stored", "content", "lookup", "query", "pool", "head"]
        return dict(sorted(found.items(), key=lambda item: keys.index(item[0].partition(".")[0])))

    def forward(self, bag: Tensor) -> Tensor:
        x = torch.relu(self.embed(bag))
        x = self.lookup(x, self.stored, self.content)
        return self.head(self.pool(self.query.expand(len(x), -1, -1), x, x))[:, 0, 0]


def test_hopfield():
    toy = {"features": 7, "dim": 16, "heads": 4, "key": 6, "patterns": 5}
    network, peer = load("hopfield.arch", variant="small", **toy), Bags(7, 16, 4, 6, 5).double()
    agree(network, peer, in_order(network, peer), noise(3, 9, 7))


# ---- graphs
SOURCE = torch.tensor([0, 1, 1, 2, 3, 0, 4, 4, 5, 6, 6])
TARGET = torch.tensor([1, 0, 2, 1, 0, 3, 5, 3, 4, 6, 4])
NODES = 8  # the last has no edge


def adjacency() -> Tensor:
    """A[i, j] is how many edges lead from j to i."""
    return torch.zeros(NODES, NODES, dtype=torch.float64).index_put_((TARGET, SOURCE), torch.tensor(1.0).double(), True)


class Gcn(nn.Module):
    """Z = Â relu(Â X W0 + b0) W1 + b1."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        for i, (a, b) in enumerate(pairwise(dims)):
            self.register_parameter(f"bias{i}", nn.Parameter(torch.zeros(b)))
            self.register_parameter(f"weight{i}", nn.Parameter(torch.zeros(b, a)))

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        loops = adjacency() + torch.eye(NODES).double()
        left, right = loops.sum(1).rsqrt().diag(), loops.sum(0).rsqrt().diag()
        x = torch.relu(left @ loops @ right @ x @ self.weight0.T + self.bias0)
        return left @ loops @ right @ x @ self.weight1.T + self.bias1


class Gat(nn.Module):
    """Every head a softmax over the neighbours, as a dense matrix that is masked."""

    def __init__(self, features: int, hidden: int, heads: int, classes: int) -> None:
        super().__init__()
        for i, (a, b, h) in enumerate([(features, hidden, heads), (hidden, classes, 1)]):
            self.register_parameter(f"source{i}", nn.Parameter(torch.zeros(h, b // h)))
            self.register_parameter(f"target{i}", nn.Parameter(torch.zeros(h, b // h)))
            self.register_parameter(f"weight{i}", nn.Parameter(torch.zeros(b, a)))

    def layer(self, x: Tensor, weight: Tensor, source: Tensor, target: Tensor) -> Tensor:
        heads = []
        for z, s, t in zip((x @ weight.T).chunk(len(source), -1), source, target, strict=True):
            score = F.leaky_relu((z @ s)[None] + (z @ t)[:, None], 0.2)
            count = adjacency()
            share = count * score.exp()
            heads.append(share / share.sum(1, keepdim=True).clamp(min=1e-300) @ z)
        return torch.cat(heads, -1)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        x = F.elu(self.layer(x, self.weight0, self.source0, self.target0))
        return self.layer(x, self.weight1, self.source1, self.target1)


class LightGcn(nn.Module):
    """The mean of D^-1/2 A D^-1/2 applied 0, 1, .. times; scores are dot products."""

    def __init__(self, users: int, dim: int, depth: int) -> None:
        super().__init__()
        self.users, self.depth = users, depth
        self.embedding = nn.Parameter(torch.zeros(NODES, dim))

    def forward(self, source: Tensor, target: Tensor, user: Tensor, item: Tensor) -> Tensor:
        a = adjacency()
        a = a.sum(1).clamp(min=1).rsqrt().diag() @ a @ a.sum(0).clamp(min=1).rsqrt().diag()
        powers = [torch.linalg.matrix_power(a, k) for k in range(self.depth + 1)]
        x = sum(powers) @ self.embedding / (self.depth + 1)
        return (x[user] * x[self.users + item]).sum(-1)


def test_gcn():
    network = load("gcn.arch", "gcn", "cora", features=5, hidden=6, classes=3, drop=0)
    peer = Gcn(5, 6, 3).double()
    agree(network, peer, in_order(network, peer), noise(NODES, 5), SOURCE, TARGET)


def test_gat():
    network = load("gcn.arch", "gat", "cora", features=5, hidden=6, heads=2, classes=3, drop=0)
    peer = Gat(5, 6, 2, 3).double()
    agree(network, peer, in_order(network, peer), noise(NODES, 5), SOURCE, TARGET)


def test_lightgcn():
    network = load("gcn.arch", "lightgcn", users=3, items=NODES - 3, dim=4)
    peer = LightGcn(3, 4, 3).double()
    agree(
        network, peer, in_order(network, peer), SOURCE, TARGET, torch.tensor([0, 2, 1, 2]), torch.tensor([4, 0, 1, 2])
    )


class Gps(nn.Module):
    """Messages from a dense adjacency, attention inside each molecule alone."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.fc1, self.fc2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm_local, self.norm_attn = nn.BatchNorm1d(dim), nn.BatchNorm1d(dim)
        self.ff1, self.ff2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.norm = nn.BatchNorm1d(dim)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(x).chunk(3, -1))
        weights = torch.einsum("ihc,jhc->hij", q, k).div(math.sqrt(q.shape[-1])).softmax(-1)
        return self.out(torch.einsum("hij,jhc->ihc", weights, v).flatten(1))

    def forward(self, x: Tensor, edge: Tensor, molecule: Tensor) -> Tensor:
        heard = torch.stack([torch.relu(x[SOURCE] + edge)[i == TARGET].sum(0) for i in range(len(x))])
        local = x + self.fc2(torch.relu(self.fc1(x + heard)))
        parts = [self.attend(x[molecule == graph]) for graph in molecule.unique()]
        y = self.norm_local(local) + self.norm_attn(x + torch.cat(parts))
        return self.norm(y + self.ff2(torch.relu(self.ff1(y))))


class Molecules(nn.Module):
    def __init__(self, dim: int, heads: int, depth: int, walk: int) -> None:
        super().__init__()
        self.pe_norm, self.pe = nn.BatchNorm1d(walk), nn.Linear(walk, 4)
        self.atoms, self.bonds = nn.Embedding(28, dim - 4), nn.Embedding(4, dim)
        self.layers = nn.ModuleList(Gps(dim, heads) for _ in range(depth))
        self.head = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise((dim, dim // 2, dim // 4, 1))))

    def forward(
        self, atom: Tensor, bond: Tensor, source: Tensor, target: Tensor, walks: Tensor, molecule: Tensor, here: Tensor
    ) -> Tensor:
        x = torch.cat([self.atoms(atom), self.pe(self.pe_norm(walks))], -1)
        for layer in self.layers:
            x = layer(x, self.bonds(bond), molecule)
        pooled = torch.stack([x[molecule == graph].sum(0) for graph in range(len(here))])
        first, second, third = self.head
        return third(torch.relu(second(torch.relu(first(pooled))))).squeeze(-1)


def test_graph_gps():
    toy = {"dim": 12, "depth": 2, "heads": 3, "walk": 5, "walk_dim": 4, "attn_drop": 0}
    network, peer = load("graph_gps.arch", variant="zinc", **toy), Molecules(12, 3, 2, 5).double()
    atom, bond = torch.arange(NODES) * 5 % 28, torch.arange(len(SOURCE)) % 4
    molecule, here = torch.tensor([0, 0, 0, 0, 2, 2, 2, 2]), torch.ones(3, dtype=torch.bool)  # none has number 1
    inputs = (atom, bond, SOURCE, TARGET, noise(NODES, 5), molecule, here)
    agree(network, peer, in_order(network, peer), *inputs)
