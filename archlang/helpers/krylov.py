"""Powers of a matrix on a vector."""

import torch
from torch import Tensor


def krylov(a: Tensor, b: Tensor, size: int) -> Tensor:
    """b, a b, a^2 b, .. as columns [.., n, size] for a [.., n, n] and b [.., n]; each square doubles them."""
    columns = b[..., None]
    while columns.shape[-1] < size:
        columns = torch.cat([columns, a @ columns], -1)
        a = a @ a
    return columns[..., :size]
