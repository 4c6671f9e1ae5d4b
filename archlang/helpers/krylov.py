"""Powers of a matrix on a vector."""

import torch
from torch import Tensor


def krylov(a: Tensor, b: Tensor, size: int) -> Tensor:
    """b, a b, a^2 b, .. as columns [.., n, size] for a [.., n, n] and b [.., n]; each square doubles them."""
    columns = b[..., None].expand(*torch.broadcast_shapes(a.shape[:-2], b.shape[:-1]), -1, 1)
    while columns.shape[-1] < size:
        columns = torch.cat([columns, a @ columns], -1)
        a = a @ a
    return columns[..., :size]
