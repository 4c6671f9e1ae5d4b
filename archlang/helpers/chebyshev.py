"""Polynomials that oscillate between -1 and 1."""

import torch


def chebyshev(x: torch.Tensor, degree: int) -> torch.Tensor:
    """[..] -> [.., degree + 1]: T_k(x) = 2 x T_{k-1}(x) - T_{k-2}(x), from T_0 = 1 and T_1 = x"""
    values = [torch.ones_like(x), x]
    for _ in range(degree - 1):
        values.append(2 * x * values[-1] - values[-2])
    return torch.stack(values, -1)
