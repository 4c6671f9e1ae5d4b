"""KAT: Kolmogorov-Arnold Transformer (Yang and Wang, ICLR 2025): a ViT whose MLPs learn their activations."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def polynomial(coefficients: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """sum over i of coefficients[group, i] x^i, for x [.., group, c]"""
    *lower, value = coefficients[..., None].unbind(1)
    for coefficient in reversed(lower):
        value = value * x + coefficient
    return value.expand_as(x)


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


class GroupRational(nn.Module):
    """y = P(x) / Q(x), with a P for all channels, or for each group of them, and a Q for each group."""

    def __init__(
        self,
        groups: int,
        numerator: Sequence[float],
        denominator: Sequence[float],
        shared: bool = True,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self.groups, self.whole = groups, whole
        self.numerator = nn.Parameter(torch.tensor([numerator] * (1 if shared else groups)))
        self.denominator = nn.Parameter(torch.tensor([denominator] * groups))

    def forward(self, x: Tensor) -> Tensor:
        numerator = self.numerator.expand(self.groups, -1)
        grouped = x.reshape(*x.shape[:-1], self.groups, -1)
        y: Tensor = RationalFunction.apply(grouped, numerator, self.denominator, self.whole)  # type: ignore[no-untyped-call]
        return y.reshape(x.shape)


class Patchify(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 16, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2)


class SelfAttention(nn.Module):
    """Tokens attend to one another (Vaswani et al., NeurIPS 2017); one map makes q, k and v."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, 2, 8))
        q, k, v = qkv.unbind(2)
        o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(o.transpose(1, 2).flatten(2))


class GrKan(nn.Module):
    """The MLP of KAT (Yang and Wang, ICLR 2025): a rational activation before each linear map.
    They start as the identity and as gelu, and the weights with the variance 1 / (fan in E[f(z)^2]), z normal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.act1 = GroupRational(4, (0.0, 1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))
        self.fc1 = nn.Linear(16, 64)
        self.fc1.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(64, 16), nonlinearity="linear"))
        self.act2 = GroupRational(4, (-0.0012994, 0.5, 0.408071, 0.1063724, 0.0084293, 0.0), (0.0, 0.2127448, 0.0, 0.0))
        self.fc2 = nn.Linear(64, 16)
        self.fc2.weight = nn.Parameter(
            nn.init.kaiming_normal_(torch.empty(16, 64), nonlinearity="linear") * 1.535187284991639
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act2(self.fc1(self.act1(x))))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(16, eps=1e-6)
        self.attn = SelfAttention()
        self.norm2 = nn.LayerNorm(16, eps=1e-6)
        self.mlp = GrKan()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Kat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(16) * 1e-6)
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(17, 16), std=0.02))
        self.patch_embed = Patchify()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.head = nn.Linear(16, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 4 or image.shape[1:] != (3, 32, 32):
            raise ValueError(f"image must be [b, c = 3, h = 32, w = 32], and is {list(image.shape)}")
        b = image.shape[0]
        x = self.patch_embed(image).transpose(1, 2)
        x = torch.cat((self.cls_token[None].expand(b, -1, -1), x), 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))
