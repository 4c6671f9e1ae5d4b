"""A bag of instances is positive if one of them is: a learned query retrieves what gives it away."""

import torch
import torch.nn.functional as F
from torch import nn


class Hopfield(nn.Module):
    """xi <- softmax(beta xi K^T) K, `steps` times, the last of which takes the values in place of K."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_state = nn.LayerNorm(8)
        self.q = nn.Linear(8, 8)
        self.norm_stored = nn.LayerNorm(8)
        self.k = nn.Linear(8, 8)
        self.norm_content = nn.LayerNorm(8)
        self.v = nn.Linear(8, 8)
        self.out = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, stored: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        xi = self.q(self.norm_state(x)).unflatten(-1, (2, 4))
        k = self.k(self.norm_stored(stored)).unflatten(-1, (2, 4))
        values = self.v(self.norm_content(content)).unflatten(-1, (2, 4))
        attend = F.scaled_dot_product_attention(
            xi.transpose(0, 2).flatten(1, 2)[None], k.transpose(0, 1)[None], values.transpose(0, 1)[None], scale=0.5
        )
        out = self.out(attend.unflatten(2, (n, b)).squeeze(0).permute(1, 2, 0, 3).flatten(2))
        return out.transpose(0, 1)


class HopfieldLayer(nn.Module):
    """What each position retrieves from learned patterns."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = nn.Parameter(torch.randn(5, 8) * 0.02)
        self.content = nn.Parameter(torch.randn(5, 8) * 0.02)
        self.hopfield = Hopfield()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.hopfield(x, self.stored, self.content)


class Hopfield2(nn.Module):
    """xi <- softmax(beta xi K^T) K, `steps` times, the last of which takes the values in place of K."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_state = nn.LayerNorm(8)
        self.q = nn.Linear(8, 8)
        self.norm_stored = nn.LayerNorm(8)
        self.k = nn.Linear(8, 8)
        self.norm_content = nn.LayerNorm(8)
        self.v = nn.Linear(8, 8)
        self.out = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, stored: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        xi = self.q(self.norm_state(x)).unflatten(-1, (2, 4))
        k = self.k(self.norm_stored(stored)).unflatten(-1, (2, 4))
        values = self.v(self.norm_content(content)).unflatten(-1, (2, 4))
        xi = F.scaled_dot_product_attention(xi.transpose(0, 1)[None], k.transpose(1, 2), k.transpose(1, 2), scale=0.5)
        xi = F.scaled_dot_product_attention(xi, k.transpose(1, 2), k.transpose(1, 2), scale=0.5)
        xi = F.scaled_dot_product_attention(xi, k.transpose(1, 2), values.transpose(1, 2), scale=0.5)
        return self.out(xi.transpose(1, 2).flatten(2))


class HopfieldPooling(nn.Module):
    """What learned queries retrieve from x: a pooling of its positions."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 8) * 0.02)
        self.hopfield = Hopfield2()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.hopfield(self.query, x, x)


class Mil(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.lookup = HopfieldLayer()
        self.pool = HopfieldPooling()
        self.head = nn.Linear(8, 1)

    def forward(self, bag: torch.Tensor) -> torch.Tensor:
        if bag.ndim != 3 or bag.shape[2] != 6:
            raise ValueError(f"bag must be [b, n, c = 6], and is {list(bag.shape)}")
        x = self.lookup(F.relu(self.embed(bag)))
        pooled = self.pool(x)
        return self.head(pooled[:, 0]).squeeze(-1)
