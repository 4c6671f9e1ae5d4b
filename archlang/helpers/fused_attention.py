"""The fused kernel over tiles."""

import torch
import torch.nn.functional as F
from torch import Tensor


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, drop: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attention of q, k, v: [cells, batch, heads, places, c], cells and batch in either order; each of them may lack
    cells, batch and heads, with size 1, and a mask leading axes too.
    """
    lead, start = torch.broadcast_shapes(*(x.shape[:3] for x in (q, k, v))), 1
    if mask is not None:
        mask = mask[(None,) * (5 - mask.ndim)]
        start = 1 if mask.shape[1] == mask.shape[2] == 1 else 0
        given = mask.shape[start : start + 2]
        whole = given if given == (1, 1) else lead[start : start + 2]
        mask = mask.expand(*mask.shape[:start], *whole, *mask.shape[start + 2 :]).flatten(start, start + 1)
    q, k, v = (x.expand(*lead, *x.shape[3:]).flatten(start, start + 1) for x in (q, k, v))
    x = F.scaled_dot_product_attention(q, k, v, mask, drop, scale=scale)
    return x.view(*lead, *x.shape[2:])
