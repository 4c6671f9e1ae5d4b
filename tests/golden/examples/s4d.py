"""Linear state space layers: LSSL (Gu et al., NeurIPS 2021), written out in both its modes, and S4D (Gu et al.,
NeurIPS 2022).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def long_conv(u: Tensor, kernel: Tensor) -> Tensor:
    """y[t] = sum over s of kernel[s] u[t - s] along the last axis, in float32 at least; the other axes broadcast."""
    length, kind = u.shape[-1], torch.promote_types(u.dtype, torch.float32)
    size = length + kernel.shape[-1]
    spectrum = torch.fft.rfft(u.to(kind), size) * torch.fft.rfft(kernel.to(kind), size)
    y: Tensor = torch.fft.irfft(spectrum, size)[..., :length].to(u.dtype)
    return y


def lti_scan(
    u: Tensor, dt: Tensor, a: Tensor, read: Tensor, b: Tensor | None = None, skip: Tensor | None = None
) -> Tensor:
    """y = read x + skip u for x' = a x + b u, u constant during steps of dt, as a convolution with what one step
    leaves; with u [.., c, t], dt and skip [c, 1], and a, b, read [c, n]: complex ones stand for their conjugates too.
    """
    weight = read * torch.expm1(dt * a) / a
    weight = weight if b is None else weight * b
    times = torch.arange(u.shape[-1], device=u.device, dtype=dt.dtype)
    kernel = (weight[..., None, :] @ torch.exp((dt * a)[..., None] * times)).squeeze(-2)
    y = long_conv(u, 2 * kernel.real if kernel.is_complex() else kernel)
    return y if skip is None else y + skip * u


class S4d(nn.Module):
    """A diagonal linear system for each channel, its states in conjugate pairs, and a gated mix (Gu et al., NeurIPS
    2022).
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_dt = nn.Parameter(torch.log(0.001 * 100.0 ** torch.rand(6)))
        self.log_decay = nn.Parameter(torch.full((6, 2), -0.6931471805599453))
        self.frequency = nn.Parameter(
            3.141592653589793 * torch.arange(2, dtype=torch.get_default_dtype()).expand((6, 2)).contiguous()
        )
        self.read = nn.Parameter(torch.randn(2, 6, 2) * 0.7071067811865476)
        self.skip = nn.Parameter(torch.randn(6))
        self.mix = nn.Linear(6, 12)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        a = torch.complex(-torch.exp(self.log_decay), self.frequency)
        y, im = self.read.unbind(0)
        dt = torch.exp(self.log_dt)
        lti_scan2 = lti_scan(u.transpose(1, 2), dt[..., None], a, torch.complex(y, im), skip=self.skip[..., None])
        y = lti_scan2.transpose(1, 2)
        return F.glu(self.mix(F.gelu(y)), -1)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.mixer = S4d()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.dropout(self.mixer(self.norm(x)), 0.1, self.training)


class S4dCifar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 6)
        self.layers = nn.ModuleList([Layer()])
        self.head = nn.Linear(6, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"pixels must be [b, t, c = 3], and is {list(pixels.shape)}")
        x = self.encoder(pixels)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))
