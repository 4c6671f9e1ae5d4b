"""The solubility of molecules; `walk` is how probable it is to be back at an atom after 1, 2, .. random steps."""

import torch
import torch.nn.functional as F
from torch import nn


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, 12)
        self.fc2 = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(x)))


class GineLayer(nn.Module):
    """Graph isomorphism with edges: mlp(x + the sum of relu(neighbour + edge)) (Hu et al., ICLR 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Linear()

    def forward(self, x: torch.Tensor, edge: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        message = F.relu(x[source] + edge)
        return self.mlp(x + message.new_zeros(n, 12).index_add(0, target, message))


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.proj = nn.Linear(12, 12)

    def forward(self, x: torch.Tensor, molecule: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 6))
        q, k, v = qkv.unbind(1)
        o = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            k.transpose(0, 1)[None],
            v.transpose(0, 1)[None],
            attn_mask=molecule[..., None] == molecule[..., None, :],
            dropout_p=0.5 if self.training else 0.0,
        ).squeeze(0)
        return self.proj(o.transpose(0, 1).flatten(1))


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, 24)
        self.fc2 = nn.Linear(24, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(x)))


class GpsLayer(nn.Module):
    """Messages along edges beside attention among all nodes of a graph, then an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.local = GineLayer()
        self.attn = SelfAttention()
        self.norm1_local = nn.BatchNorm1d(12)
        self.norm1_attn = nn.BatchNorm1d(12)
        self.mlp = Mlp()
        self.norm2 = nn.BatchNorm1d(12)

    def forward(
        self, x: torch.Tensor, edge: torch.Tensor, source: torch.Tensor, target: torch.Tensor, molecule: torch.Tensor
    ) -> torch.Tensor:
        local = (x + self.local(x, edge, source, target)).transpose(0, 1)
        dense = (x + self.attn(x, molecule)).transpose(0, 1)
        x = self.norm1_local(local.transpose(0, 1)) + self.norm1_attn(dense.transpose(0, 1))
        return self.norm2(x + self.mlp(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gps_layer = GpsLayer()

    def forward(
        self, molecule: torch.Tensor, x: torch.Tensor, edge: torch.Tensor, source: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        return self.gps_layer(x, edge, source, target, molecule)


class GraphGps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pe_norm = nn.BatchNorm1d(4)
        self.pe = nn.Linear(4, 4)
        self.atom_embed = nn.Embedding(28, 8)
        self.bond_embed = nn.Embedding(4, 12)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.head1 = nn.Linear(12, 6)
        self.head2 = nn.Linear(6, 3)
        self.head3 = nn.Linear(3, 1)

    def forward(
        self,
        atom: torch.Tensor,
        bond: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        walks: torch.Tensor,
        molecule: torch.Tensor,
        present: torch.Tensor,
    ) -> torch.Tensor:
        if atom.ndim != 1:
            raise ValueError(f"atom must be int[n], and is {list(atom.shape)}")
        if bond.ndim != 1:
            raise ValueError(f"bond must be int[e], and is {list(bond.shape)}")
        if source.ndim != 1:
            raise ValueError(f"source must be int[e], and is {list(source.shape)}")
        if target.ndim != 1:
            raise ValueError(f"target must be int[e], and is {list(target.shape)}")
        if walks.ndim != 2 or walks.shape[1] != 4:
            raise ValueError(f"walks must be [n, c = 4], and is {list(walks.shape)}")
        if molecule.ndim != 1:
            raise ValueError(f"molecule must be segments[n], and is {list(molecule.shape)}")
        if present.ndim != 1:
            raise ValueError(f"present must be bool[b], and is {list(present.shape)}")
        n = atom.shape[-1]
        e = bond.shape[-1]
        b = present.shape[-1]
        if source.shape[0] != e:
            raise ValueError(f"axis e of source must be e = {e}, and is {source.shape[0]}")
        if target.shape[0] != e:
            raise ValueError(f"axis e of target must be e = {e}, and is {target.shape[0]}")
        if walks.shape[0] != n:
            raise ValueError(f"axis n of walks must be n = {n}, and is {walks.shape[0]}")
        if molecule.shape[0] != n:
            raise ValueError(f"axis n of molecule must be n = {n}, and is {molecule.shape[0]}")
        pe = self.pe(self.pe_norm(walks))
        x = torch.cat((self.atom_embed(atom), pe), -1)
        edge = self.bond_embed(bond)
        for layer in self.layers:
            x = layer(molecule, x, edge, source, target)
        pooled = x.new_zeros(b, 12).index_add(0, molecule, x)
        return self.head3(F.relu(self.head2(F.relu(self.head1(pooled))))).squeeze(-1)
