"""Diagonal linear systems that do not change with time."""

import torch
from torch import Tensor

from archlang.helpers.long_conv import long_conv


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
