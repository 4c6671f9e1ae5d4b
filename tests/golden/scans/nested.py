# Made by archlang 0.1.0 from <string> (sha256 bc3f3338b0119099): net

import torch
from torch import nn


class Net(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 4 or x.shape[3] != 3:
            raise ValueError(f"x must be [b, t, n, c = 3], and is {list(x.shape)}")
        b = x.shape[0]
        s = x.new_zeros(b, 3)
        outputs = []
        for x_t in x.unbind(1):
            r = s
            outputs2 = []
            for x_t_n in x_t.unbind(1):
                r = torch.tanh(r + x_t_n)
                outputs2.append(r * s)
            rows = torch.stack(outputs2, 1)
            s = rows.mean(1)
            outputs.append(rows + s[:, None])
        return torch.stack(outputs, 1)
