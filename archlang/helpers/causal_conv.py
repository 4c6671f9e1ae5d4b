"""Convolutions of each channel along time, channels last."""

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    dilation: int = 1,
    silu: bool = False,
    before: Tensor | None = None,
) -> Tensor:
    """y[t] = bias + sum over k of weight[:, 0, k] x[t - (kernel - 1 - k) dilation], then silu if asked for, for x
    [.., t, c] and the weight [c, 1, kernel]. The positions `before` the first are [.., (kernel - 1) dilation, c], or 0.
    """
    reach = (weight.shape[-1] - 1) * dilation
    seen = F.pad(x, (0, 0, reach, 0)) if before is None else torch.cat([before, x], -2)
    line = seen.reshape(-1, 1, *seen.shape[-2:]).permute(0, 3, 1, 2)  # a map one row high: its channels may be last
    y = F.conv2d(line, weight.unsqueeze(2), bias, dilation=(1, dilation), groups=x.shape[-1])
    y = y.permute(0, 2, 3, 1).reshape(x.shape)
    return F.silu(y) if silu else y
