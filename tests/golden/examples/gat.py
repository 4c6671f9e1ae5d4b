"""The same, where a node chooses which neighbours it hears; its own loop is one of the edges."""

import torch
import torch.nn.functional as F
from torch import nn


class GatLayer(nn.Module):
    """Graph attention: neighbours weighted by softmax(leaky_relu(a_s z_source + a_t z_target)), z = x W;
    a node hears itself where the edges have loops (Velickovic et al., ICLR 2018).
    """

    def __init__(self, in_dim: int, dim: int, heads: int, from_source2: int) -> None:
        super().__init__()
        self.heads = heads
        self.from_source2 = from_source2
        self.from_source = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, from_source2), 1.0))
        self.to_target = nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, from_source2), 1.0))
        self.linear = nn.Linear(in_dim, dim, bias=False)

    def forward(self, x: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        z = self.linear(x).unflatten(-1, (self.heads, self.from_source2))
        score = torch.einsum("nhc,hc->nh", z, self.from_source)[source]
        score = score + torch.einsum("nhc,hc->nh", z, self.to_target)[target]
        score = F.leaky_relu(score, 0.2)
        top = score.new_zeros(n, self.heads).scatter_reduce(
            0, target[:, None].expand_as(score), score, "amax", include_self=False
        )
        weight = torch.exp(score - top[target])
        weight = weight / weight.new_zeros(n, self.heads).index_add(0, target, weight)[target]
        x = weight[..., None] * z[source]
        return x.new_zeros(n, self.heads, self.from_source2).index_add(0, target, x).flatten(1)


class Gat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = GatLayer(6, dim=8, heads=2, from_source2=4)
        self.layer2 = GatLayer(8, dim=3, heads=1, from_source2=3)

    def forward(self, node: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if node.ndim != 2 or node.shape[1] != 6:
            raise ValueError(f"node must be [n, c = 6], and is {list(node.shape)}")
        if source.ndim != 1:
            raise ValueError(f"source must be int[e], and is {list(source.shape)}")
        if target.ndim != 1:
            raise ValueError(f"target must be int[e], and is {list(target.shape)}")
        e = source.shape[-1]
        if target.shape[0] != e:
            raise ValueError(f"axis e of target must be e = {e}, and is {target.shape[0]}")
        x = F.dropout(F.elu(self.layer1(F.dropout(node, 0.6, self.training), source, target)), 0.6, self.training)
        return self.layer2(x, source, target)
