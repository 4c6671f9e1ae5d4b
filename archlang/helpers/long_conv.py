"""Convolutions as long as the signal, by the fast Fourier transform."""

import torch
from torch import Tensor


def long_conv(u: Tensor, kernel: Tensor) -> Tensor:
    """y[t] = sum over s of kernel[s] u[t - s] along the last axis, in float32 at least; the other axes broadcast."""
    length, kind = u.shape[-1], torch.promote_types(u.dtype, torch.float32)
    size = length + kernel.shape[-1]
    spectrum = torch.fft.rfft(u.to(kind), size) * torch.fft.rfft(kernel.to(kind), size)
    y: Tensor = torch.fft.irfft(spectrum, size)[..., :length].to(u.dtype)
    return y
