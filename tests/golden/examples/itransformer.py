"""Each variate's whole past is one token: attention is among variates, the axis `past` is no time that runs."""

import torch
import torch.nn.functional as F
from torch import nn


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 4))
        q, k, v = qkv.unbind(2)
        o = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), dropout_p=0.1 if self.training else 0.0
        )
        return F.dropout(self.proj(o.transpose(1, 2).flatten(2)), 0.1, self.training)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 12)
        self.fc2 = nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.fc2(F.dropout(F.gelu(self.fc1(x)), 0.1, self.training)), 0.1, self.training)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = SelfAttention()
        self.norm1 = nn.LayerNorm(8)
        self.mlp = Mlp()
        self.norm2 = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm1 = self.norm1(x + self.attn(x))
        return self.norm2(norm1 + self.mlp(norm1))


class Itransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 8)
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.norm = nn.LayerNorm(8)
        self.projector = nn.Linear(8, 6)

    def forward(self, series: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
        if series.ndim != 3 or series.shape[1] != 12:
            raise ValueError(f"series must be [b, past = 12, n], and is {list(series.shape)}")
        if marks.ndim != 3 or marks.shape[1:] != (12, 2):
            raise ValueError(f"marks must be [b, past = 12, n = 2], and is {list(marks.shape)}")
        b, _, n = series.shape
        if marks.shape[0] != b:
            raise ValueError(f"axis b of marks must be b = {b}, and is {marks.shape[0]}")
        level = series.mean(1)
        spread = torch.sqrt(series.var(1, correction=0) + 1e-5)
        tokens = torch.cat(((series - level[:, None]) / spread[:, None], marks), -1).transpose(1, 2)
        x = F.dropout(self.embed(tokens), 0.1, self.training)
        for layer in self.layers:
            x = layer(x)
        y = self.projector(self.norm(x[:, :n]))
        return (y * spread[..., None] + level[..., None]).transpose(1, 2)
