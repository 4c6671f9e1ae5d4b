"""Linear state space layers: LSSL (Gu et al., NeurIPS 2021), written out in both its modes, and S4D (Gu et al.,
NeurIPS 2022).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Lssl(nn.Module):
    """x' = A x + B u, y = C x + D u, discretised by the generalised bilinear transform; both modes are one
    function.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(
            -torch.arange(1.0, 2 * 4, 2).sqrt().outer(torch.arange(1.0, 2 * 4, 2).sqrt()).tril(-1)
            - torch.arange(1.0, 4 + 1).diag(),
        )
        self.write = nn.Parameter((2 * torch.ones(4).cumsum(-1) - 1).sqrt())
        self.read = nn.Parameter(torch.randn(6, 1, 4))
        self.skip = nn.Parameter(torch.randn(6, 1))
        self.log_dt = nn.Parameter(torch.log(0.001 * 100.0 ** torch.rand(6)))
        self.register_buffer("eye", torch.arange(4) == torch.arange(4)[:, None], persistent=False)
        self.mix = nn.Linear(6, 6)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        dtype = u.dtype
        b = u.shape[0]
        dt = torch.exp(self.log_dt)
        eye = self.eye.to(dtype)
        left = eye.transpose(0, 1) - (0.5 * dt)[:, None, None] * self.a
        a_bar = torch.linalg.solve(left, eye.transpose(0, 1) + (0.5 * dt)[:, None, None] * self.a)
        b_bar = torch.linalg.solve(left, (dt * self.write[:, None]).transpose(0, 1).unsqueeze(-1)).squeeze(-1)
        x = a_bar.new_zeros(b, 6, 4)
        outputs = []
        for u_t in u.unbind(1):
            x = torch.einsum("cro,bco->crb", a_bar, x) + (b_bar * u_t[..., None]).permute(1, 2, 0)
            outputs.append(self.read @ x)
            x = x.permute(2, 0, 1)
        y = torch.stack(outputs, 0).permute(3, 0, 1, 2)
        return self.mix(F.gelu(y + self.skip * u[..., None]).flatten(2))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.mixer = Lssl()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.dropout(self.mixer(self.norm(x)), 0.1, self.training)


class LsslCifar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, 6)
        self.layers = nn.ModuleList([Layer()])
        self.head = nn.Linear(6, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.ndim != 3 or pixels.shape[1:] != (8, 1):
            raise ValueError(f"pixels must be [b, t = 8, c = 1], and is {list(pixels.shape)}")
        x = self.encoder(pixels)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))
