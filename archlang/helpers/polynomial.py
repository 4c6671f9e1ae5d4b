"""Polynomials by Horner's rule."""

import torch


def polynomial(coefficients: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """sum over i of coefficients[group, i] x^i, for x [.., group, c]"""
    *lower, value = coefficients[..., None].unbind(1)
    for coefficient in reversed(lower):
        value = value * x + coefficient
    return value.expand_as(x)
