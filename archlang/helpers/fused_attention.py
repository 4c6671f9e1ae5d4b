"""The fused kernel over tiles."""

import torch.nn.functional as F
from torch import Tensor


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, drop: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attention of q, k, v: [cells, batch, heads, places, c]; a mask may lack batch and heads, with size 1."""
    cells, batch, heads = q.shape[:3]
    if mask is not None:
        shared = mask.shape[1] == mask.shape[2] == 1
        mask = mask[:, 0] if shared else mask.expand(cells, batch, heads, *mask.shape[3:]).flatten(1, 2)
    q, k, v = q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2)
    x = F.scaled_dot_product_attention(q, k, v, mask, drop, scale=scale)
    return x.view(cells, batch, heads, *x.shape[2:])
