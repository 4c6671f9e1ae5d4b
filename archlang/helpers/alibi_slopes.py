"""How fast linear biases fall."""

import torch
from torch import Tensor


def alibi_slopes(heads: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """slope[head], from 2^(-8 / heads) down to 2^-8, in single precision at least."""
    power = 1 << (heads.bit_length() - 1)
    exponents = [8 * (head + 1) / power for head in range(power)]
    exponents += [4 * (2 * head + 1) / power for head in range(heads - power)]
    exact = torch.promote_types(dtype, torch.float32)
    return torch.tensor([2**-exponent for exponent in exponents], dtype=exact, device=device)
