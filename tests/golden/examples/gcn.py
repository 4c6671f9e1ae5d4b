"""Papers are classified by their words and by the papers that they cite."""

import torch
import torch.nn.functional as F
from torch import nn


class GcnLayer(nn.Module):
    """Graph convolution: D^-1/2 (A + I) D^-1/2 x W + bias (Kipf and Welling, ICLR 2017)."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.offset = nn.Parameter(torch.zeros(dim))
        self.linear = nn.Linear(in_dim, dim, bias=False)

    def forward(self, x: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        n = x.shape[0]
        leaves = torch.zeros(n, dtype=dtype, device=source.device).scatter_add(
            0, source, torch.ones_like(source, dtype=dtype)
        )
        leaves = torch.rsqrt((leaves + 1).clamp(min=1))
        arrives = torch.zeros(n, dtype=dtype, device=target.device).scatter_add(
            0, target, torch.ones_like(target, dtype=dtype)
        )
        arrives = torch.rsqrt((arrives + 1).clamp(min=1))
        x = leaves[:, None] * self.linear(x)
        heard = x[source]
        heard = heard.new_zeros(n, self.dim).index_add(0, target, heard)
        y = arrives[:, None] * (heard + x)
        return y + self.offset


class Gcn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = GcnLayer(6, dim=4)
        self.layer2 = GcnLayer(4, dim=3)

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
        x = F.dropout(F.relu(self.layer1(F.dropout(node, 0.5, self.training), source, target)), 0.5, self.training)
        return self.layer2(x, source, target)
