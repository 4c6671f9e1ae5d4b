# Made by archlang 0.1.0 from <string> (sha256 b73304e5cfad6524): net

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a_bar = nn.Parameter(torch.randn(3, 4, 4) * 0.3)
        self.b_bar = nn.Parameter(torch.randn(3, 4))
        self.read = nn.Parameter(torch.randn(3, 2, 4))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        if u.ndim != 3 or u.shape[2] != 3:
            raise ValueError(f"u must be [b, t, c = 3], and is {list(u.shape)}")
        b = u.shape[0]
        x = u.new_zeros(b, 3, 4)
        outputs = []
        for u_t in u.unbind(1):
            x = torch.einsum("cro,bco->crb", self.a_bar, x) + (self.b_bar * u_t[..., None]).permute(1, 2, 0)
            outputs.append(self.read @ x)
            x = x.permute(2, 0, 1)
        y = torch.stack(outputs, 0)
        return y.permute(3, 0, 1, 2)
