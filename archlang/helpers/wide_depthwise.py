"""Convolutions of each channel of an image, channels last."""

import torch.nn.functional as F
from torch import Tensor


def wide_depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[h, w] = bias + sum over i, j of weight[:, 0, i, j] x[h + i - above, w + j - before] for x [.., h, w, c] and the
    weight [c, 1, high, wide], with above = (high - 1) // 2 and before = (wide - 1) // 2.
    """
    high, wide = weight.shape[2:]
    padded = F.pad(x, (0, 0, (wide - 1) // 2, wide // 2, (high - 1) // 2, high // 2))
    images = padded.reshape(-1, *padded.shape[-3:]).permute(0, 3, 1, 2)
    return F.conv2d(images, weight, bias, groups=x.shape[-1]).permute(0, 2, 3, 1).reshape(x.shape)
