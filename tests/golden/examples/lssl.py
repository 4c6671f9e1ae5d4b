"""Linear state space layers: LSSL (Gu et al., NeurIPS 2021), written out in both its modes, and S4D (Gu et al.,
NeurIPS 2022).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def krylov(a: Tensor, b: Tensor, size: int) -> Tensor:
    """b, a b, a^2 b, .. as columns [.., n, size] for a [.., n, n] and b [.., n]; each square doubles them."""
    columns = b[..., None].expand(*torch.broadcast_shapes(a.shape[:-2], b.shape[:-1]), -1, 1)
    while columns.shape[-1] < size:
        columns = torch.cat([columns, a @ columns], -1)
        a = a @ a
    return columns[..., :size]


def long_conv(u: Tensor, kernel: Tensor) -> Tensor:
    """y[t] = sum over s of kernel[s] u[t - s] along the last axis, in float32 at least; the other axes broadcast."""
    length, kind = u.shape[-1], torch.promote_types(u.dtype, torch.float32)
    size = length + kernel.shape[-1]
    spectrum = torch.fft.rfft(u.to(kind), size) * torch.fft.rfft(kernel.to(kind), size)
    y: Tensor = torch.fft.irfft(spectrum, size)[..., :length].to(u.dtype)
    return y


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
        dt = torch.exp(self.log_dt)
        eye = self.eye.to(dtype)
        left = eye.transpose(0, 1) - (0.5 * dt)[:, None, None] * self.a
        a_bar = torch.linalg.solve(left, eye.transpose(0, 1) + (0.5 * dt)[:, None, None] * self.a)
        b_bar = torch.linalg.solve(left, (dt * self.write[:, None]).transpose(0, 1).unsqueeze(-1)).squeeze(-1)
        long_conv2 = long_conv(u.transpose(1, 2)[:, :, None], self.read @ krylov(a_bar, b_bar, 8))
        y = long_conv2.permute(0, 3, 1, 2)
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
