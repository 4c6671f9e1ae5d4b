"""Quotients of polynomials that have no poles, with a gradient that keeps only their input."""

from typing import Any

import torch
from torch import Tensor

from archlang.helpers.polynomial import polynomial


class RationalFunction(torch.autograd.Function):
    """y = P(x) / Q(x) with P = sum a_i x^i for x [.., group, c], and Q = 1 + sum |b_j x^j|, or with `whole`
    Q = 1 + |sum b_j x^j|, j from 1. The slope of |b| at 0 is taken as 1, so that a b of 0 can be learned.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, whole: bool) -> Tensor:
        ctx.save_for_backward(x, a, b)
        ctx.whole = whole
        wide, a, b = (value.to(torch.promote_types(x.dtype, torch.float32)) for value in (x, a, b))
        z, b = (wide, b) if whole else (wide.abs(), b.abs())
        return (polynomial(a, wide) / (1 + (z * polynomial(b, z)).abs())).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors
        x, a, b = (value.to(torch.promote_types(grad.dtype, torch.float32)) for value in given)
        z, c = (x, b) if ctx.whole else (x.abs(), b.abs())
        inner = z * polynomial(c, z)
        grad_p = grad / (1 + inner.abs())
        grad_q = -grad_p * polynomial(a, x) / (1 + inner.abs())
        if ctx.whole:
            grad_q = torch.where(inner < 0, -grad_q, grad_q)
        slope_p = polynomial(a[:, 1:] * torch.arange(1, a.shape[1], device=a.device), x)
        slope_q = polynomial(c * torch.arange(1, c.shape[1] + 1, device=a.device), z)
        grad_x = grad_p * slope_p + grad_q * (slope_q if ctx.whole else slope_q * x.sign())
        over = [*range(x.ndim - 2), x.ndim - 1]
        grad_a, grad_b = [grad_p.sum(over)], []
        for _ in range(a.shape[1] - 1):
            grad_p = grad_p * x
            grad_a.append(grad_p.sum(over))
        for _ in range(b.shape[1]):
            grad_q = grad_q * z
            grad_b.append(grad_q.sum(over))
        signs = 1 if ctx.whole else torch.where(b < 0, -1, 1)
        grads = grad_x, torch.stack(grad_a, 1), torch.stack(grad_b, 1) * signs
        return *(made.to(value.dtype) for made, value in zip(grads, given, strict=True)), None
