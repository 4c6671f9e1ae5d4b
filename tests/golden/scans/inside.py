# Made by archlang 0.1.0 from <string> (sha256 065789ec8f706840): net

import torch
from torch import nn


class Mix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.proj(x)) * 0.5


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = Mix()

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.mix(h)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList(Inner() for _ in range(2))
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        b = x.shape[0]
        h = x.new_zeros(b, 4)
        outputs = []
        for x_t, k_t in zip(x.unbind(1), k.unbind(1)):
            for inner in self.inner:
                h = inner(h)
            h = h + x_t
            k0, k1 = k_t.unbind(1)
            h = torch.sin(h) + k0
            h = torch.sin(h) + k1
            outputs.append(self.norm(h))
        return torch.stack(outputs, 1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def forward(self, x: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        if x.ndim != 3 or x.shape[2] != 4:
            raise ValueError(f"x must be [b, t, c = 4], and is {list(x.shape)}")
        if k.ndim != 4 or k.shape[2:] != (2, 4):
            raise ValueError(f"k must be [b, t, heads = 2, c = 4], and is {list(k.shape)}")
        b, t, _ = x.shape
        if k.shape[0] != b:
            raise ValueError(f"axis b of k must be b = {b}, and is {k.shape[0]}")
        if k.shape[1] != t:
            raise ValueError(f"axis t of k must be t = {t}, and is {k.shape[1]}")
        for layer in self.layers:
            x = layer(x, k)
        return x
