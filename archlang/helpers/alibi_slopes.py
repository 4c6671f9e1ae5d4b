"""How fast linear biases fall."""

import torch
from torch import Tensor


def alibi_slopes(heads: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """slope[head], from 2^(-8 / heads) down to 2^-8, in single precision at least."""
    power = 1 << (heads.bit_length() - 1)
    exact = torch.promote_types(dtype, torch.float32)
    step = torch.arange(1, heads + 1, dtype=exact, device=device)
    return torch.exp2(torch.where(step <= power, -8 * step, 4 - 8 * (step - power)) / power)
