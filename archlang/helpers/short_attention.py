"""Attention over few keys."""

import torch
from torch import Tensor


def short_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, drop: float = 0.0, scale: float | None = None
) -> Tensor:
    """softmax(scale * q k^T + bias) v of [.., places, c], written out: with few keys faster than the fused kernel on a
    CPU.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = q @ k.mT * scale if bias is None else torch.add(bias, q @ k.mT, alpha=scale)
    weights = weights.softmax(-1)
    return (torch.dropout(weights, drop, True) if drop > 0 else weights) @ v
