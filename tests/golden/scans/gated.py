# Made by archlang 0.1.0 from <string> (sha256 75120466ee945bbe): net

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.full((4,), 0.5))
        self.gate = nn.Linear(4, 4)
        self.cell = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
        if x.ndim != 3 or x.shape[2] != 4:
            raise ValueError(f"x must be [b, t, c = 4], and is {list(x.shape)}")
        if h0.ndim != 2 or h0.shape[1] != 4:
            raise ValueError(f"h0 must be [b, c = 4], and is {list(h0.shape)}")
        b = x.shape[0]
        if h0.shape[0] != b:
            raise ValueError(f"axis b of h0 must be b = {b}, and is {h0.shape[0]}")
        gate = self.gate(x)
        h = h0
        s = h0.new_zeros(b, 4)
        ys = []
        zs = []
        for x_t, gate_t in zip(x.unbind(1), gate.unbind(1)):
            g = torch.sigmoid(gate_t)
            h = g * h + (1 - g) * torch.tanh(self.cell(h))
            s = self.decay * s + h
            ys.append(h)
            zs.append(s * x_t)
        return torch.stack(ys, 1) + torch.stack(zs, 1)
