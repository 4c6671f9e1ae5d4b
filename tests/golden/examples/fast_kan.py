"""KAN: Kolmogorov-Arnold Networks (Liu et al., ICLR 2025) for handwritten digits, in the forms of efficient-KAN,
which keeps the curves as features of a linear map, and of FastKAN (Li, arXiv:2405.06721), with Gaussians for
splines.
"""

import torch
import torch.nn.functional as F
from torch import nn


def rbf(x: torch.Tensor, centers: int, low: float, high: float, width: float) -> torch.Tensor:
    """[..] -> [.., centers]: e^-((x - g) / width)^2 around places g from `low` to `high`"""
    grid = torch.linspace(low, high, centers, dtype=x.dtype, device=x.device)
    return torch.exp(-(((x[..., None] - grid) / width) ** 2))


class LayerNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rbf(self.layer_norm(x), 4, -2.0, 2.0, 1.3333333333333333)


class Kan(nn.Module):
    """y_u = sum over c of f_uc(x_c), f_uc(z) = base_uc act(z) + sum over k of spline_uck g_k(z)
    (Liu et al., ICLR 2025). The values of the basis g are features, of which one linear map makes all sums.

    With `scaled`, each curve has a factor of its own. FastKAN: `basis = layer_norm -> rbf, bias = true`.
    FasterKAN: `basis = layer_norm -> rswaf, base = none`.
    Chebyshev KAN: `basis = tanh -> chebyshev, base = none`.
    """

    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        self.basis = LayerNorm(dim)
        self.spline = nn.Linear(4 * dim, units, bias=False)
        self.spline.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(units, 4 * dim), std=0.1))
        self.base = nn.Linear(dim, units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.basis(x)
        y = self.spline(features.flatten(1))
        return y + self.base(F.silu(x))


class Layer(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.kan = Kan(in_dim, units=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.kan(x)


class FastKan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(in_dim, dim=dim) for in_dim, dim in zip((16, 5), (5, 3)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.ndim != 3 or image.shape[1:] != (4, 4):
            raise ValueError(f"image must be [b, h = 4, w = 4], and is {list(image.shape)}")
        x = image.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return x
