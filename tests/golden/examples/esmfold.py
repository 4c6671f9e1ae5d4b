"""The trunk of ESMFold (Lin et al., Science 2023): residues, pairs of them, and triangles (Jumper et al., Nature
2021).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def short_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, drop: float = 0.0, scale: float | None = None
) -> Tensor:
    """softmax(scale * q k^T + bias) v of [.., places, c], written out: with few keys faster than the fused kernel on a
    CPU.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = q @ k.mT * scale if bias is None else torch.add(bias, q @ k.mT, alpha=scale)
    weights = weights.softmax(-1)
    return (torch.dropout(weights, drop, True) if drop > 0 else weights) @ v


class GatedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(8, 24, bias=False)
        self.g_proj = nn.Linear(8, 8)
        self.o_proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        q, k, v = self.proj(x).unflatten(-1, (2, 12)).chunk(3, -1)
        y = short_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), bias=bias.permute(0, 3, 1, 2))
        y = y.transpose(1, 2).flatten(2)
        return self.o_proj(torch.sigmoid(self.g_proj(x)) * y)


class Transition(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(F.relu(self.fc1(self.norm(x))))


class ToPairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(8)
        self.proj = nn.Linear(8, 4)
        self.o_proj = nn.Linear(4, 4)

    def forward(self, s: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        q, k = self.proj(self.layernorm(s)).chunk(2, -1)
        return z + self.o_proj(torch.cat((q[:, None] * k[:, :, None], q[:, None] - k[:, :, None]), -1))


class TriangleUpdate(nn.Module):
    """z_ij from all a_ik b_jk, or a_ki b_kj."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_norm_in = nn.LayerNorm(4)
        self.linear_a_g = nn.Linear(4, 4)
        self.linear_a_p = nn.Linear(4, 4)
        self.linear_b_g = nn.Linear(4, 4)
        self.linear_b_p = nn.Linear(4, 4)
        self.layer_norm_out = nn.LayerNorm(4)
        self.linear_z = nn.Linear(4, 4)
        self.linear_g = nn.Linear(4, 4)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.layer_norm_in(z)
        a = torch.sigmoid(self.linear_a_g(x)) * self.linear_a_p(x)
        other = torch.sigmoid(self.linear_b_g(x)) * self.linear_b_p(x)
        y = torch.einsum("bnmc,bomc->bnco", a, other)
        return self.linear_z(self.layer_norm_out(y.transpose(2, 3))) * torch.sigmoid(self.linear_g(x))


class TriangleUpdate2(nn.Module):
    """z_ij from all a_ik b_jk, or a_ki b_kj."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_norm_in = nn.LayerNorm(4)
        self.linear_a_g = nn.Linear(4, 4)
        self.linear_a_p = nn.Linear(4, 4)
        self.linear_b_g = nn.Linear(4, 4)
        self.linear_b_p = nn.Linear(4, 4)
        self.layer_norm_out = nn.LayerNorm(4)
        self.linear_z = nn.Linear(4, 4)
        self.linear_g = nn.Linear(4, 4)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.layer_norm_in(z)
        a = torch.sigmoid(self.linear_a_g(x)) * self.linear_a_p(x)
        other = torch.sigmoid(self.linear_b_g(x)) * self.linear_b_p(x)
        y = torch.einsum("bknc,bkoc->bnco", a, other)
        return self.linear_z(self.layer_norm_out(y.transpose(2, 3))) * torch.sigmoid(self.linear_g(x))


class TriangleAttention(nn.Module):
    """Pairs that start at one residue attend to one another; the bias is that of the third side."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 2, bias=False)
        self.linear_q = nn.Linear(4, 4, bias=False)
        self.linear_k = nn.Linear(4, 4, bias=False)
        self.linear_v = nn.Linear(4, 4, bias=False)
        self.linear_g = nn.Linear(4, 4)
        self.linear_o = nn.Linear(4, 4)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = self.layer_norm(z)
        bias = self.linear(z)
        q = self.linear_q(z).unflatten(-1, (2, 2))
        k = self.linear_k(z).unflatten(-1, (2, 2))
        v = self.linear_v(z).unflatten(-1, (2, 2))
        g = torch.sigmoid(self.linear_g(z).unflatten(-1, (2, 2)))
        q = short_attention(
            q.transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3), bias=bias.permute(0, 3, 1, 2)[:, None]
        )
        return self.linear_o((g * q.transpose(2, 3)).flatten(3))


class TriangleAttention2(nn.Module):
    """Pairs that start at one residue attend to one another; the bias is that of the third side."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 2, bias=False)
        self.linear_q = nn.Linear(4, 4, bias=False)
        self.linear_k = nn.Linear(4, 4, bias=False)
        self.linear_v = nn.Linear(4, 4, bias=False)
        self.linear_g = nn.Linear(4, 4)
        self.linear_o = nn.Linear(4, 4)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = self.layer_norm(z)
        bias = self.linear(z)
        q = self.linear_q(z).unflatten(-1, (2, 2))
        k = self.linear_k(z).unflatten(-1, (2, 2))
        v = self.linear_v(z).unflatten(-1, (2, 2))
        g = torch.sigmoid(self.linear_g(z).unflatten(-1, (2, 2)))
        q = short_attention(
            q.permute(0, 2, 3, 1, 4),
            k.permute(0, 2, 3, 1, 4),
            v.permute(0, 2, 3, 1, 4),
            bias=bias.transpose(1, 3)[:, None],
        )
        return self.linear_o((g * q.permute(0, 3, 1, 2, 4)).flatten(3))


class Fold(nn.Module):
    """Residues see their pairs as a bias; pairs learn from residues, then from one another."""

    def __init__(self) -> None:
        super().__init__()
        self.pair_norm = nn.LayerNorm(4)
        self.pair_bias = nn.Linear(4, 2, bias=False)
        self.layernorm_1 = nn.LayerNorm(8)
        self.seq_attention = GatedAttention()
        self.mlp_seq = Transition(8)
        self.sequence_to_pair = ToPairs()
        self.tri_mul_out = TriangleUpdate()
        self.tri_mul_in = TriangleUpdate2()
        self.tri_att_start = TriangleAttention()
        self.tri_att_end = TriangleAttention2()
        self.mlp_pair = Transition(4)

    def forward(self, s: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        bias = self.pair_bias(self.pair_norm(z))
        s = s + self.seq_attention(self.layernorm_1(s), bias)
        s = self.mlp_seq(s)
        z = self.sequence_to_pair(s, z)
        z = z + self.tri_mul_out(z)
        z = z + self.tri_mul_in(z)
        z = z + self.tri_att_start(z)
        return s, self.mlp_pair(z + self.tri_att_end(z))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._modules["fold"] = Fold()

    def forward(self, s: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        s, z = self._modules["fold"](s, z)
        return s, z


class EsmfoldTrunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, residues: torch.Tensor, pairs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if residues.ndim != 3 or residues.shape[1:] != (9, 8):
            raise ValueError(f"residues must be [b, n = 9, c = 8], and is {list(residues.shape)}")
        if pairs.ndim != 4 or pairs.shape[1:] != (9, 9, 4):
            raise ValueError(f"pairs must be [b, n = 9, m = 9, c = 4], and is {list(pairs.shape)}")
        b = residues.shape[0]
        if pairs.shape[0] != b:
            raise ValueError(f"axis b of pairs must be b = {b}, and is {pairs.shape[0]}")
        for block in self.blocks:
            residues, pairs = block(residues, pairs)
        return residues, pairs
