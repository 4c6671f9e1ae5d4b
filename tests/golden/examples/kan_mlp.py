"""KAN: Kolmogorov-Arnold Networks (Liu et al., ICLR 2025) for handwritten digits, in the forms of efficient-KAN,
which keeps the curves as features of a linear map, and of FastKAN (Li, arXiv:2405.06721), with Gaussians for
splines.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cox_de_boor(x: Tensor, grid: Tensor, order: int) -> Tensor:
    """[.., dim] -> [.., dim, knots - order - 1]: the B-splines of a degree on the knots `grid` [dim, knots], from those
    of lower degrees.
    """
    x = x[..., None]
    y = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for d in range(1, order + 1):
        rise = (x - grid[:, : -d - 1]) / (grid[:, d:-1] - grid[:, : -d - 1])
        fall = (grid[:, d + 1 :] - x) / (grid[:, d + 1 :] - grid[:, 1:-d])
        y = rise * y[..., :-1] + fall * y[..., 1:]
    return y


class BSpline(nn.Module):
    """[.., dim] -> [.., dim, grid + order]: the B-splines of each channel"""

    grid: Tensor

    def __init__(self, dim: int, grid: int = 5, order: int = 3, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.order = order
        knots = torch.arange(-order, grid + order + 1) * ((high - low) / grid) + low
        self.register_buffer("grid", knots.expand(dim, -1).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return cox_de_boor(x, self.grid, self.order)

    @torch.no_grad()
    def move_grid(self, x: Tensor, weight: Tensor, uniform: float = 0.02, margin: float = 0.01) -> Tensor:
        """Lay the grid around the data x [.., dim], in equal parts but for a `uniform` share of even intervals, and
        return the weight [units, dim, splines] that by least squares keeps the curves of `weight` at the data.
        """
        x = x.flatten(0, -2)
        splines = self(x).transpose(0, 1)
        curves = splines @ weight.reshape(len(weight), x.shape[1], -1).permute(1, 2, 0)
        intervals = self.grid.shape[1] - 2 * self.order - 1
        places = torch.linspace(0, len(x) - 1, intervals + 1, device=x.device).round().long()
        low, high = x.amin(0) - margin, x.amax(0) + margin
        step = ((high - low) / intervals)[:, None]
        even = low[:, None] + step * torch.arange(intervals + 1, device=x.device)
        knots = uniform * even + (1 - uniform) * x.sort(0).values[places].T
        outside = step * torch.arange(1, self.order + 1, device=x.device)
        self.grid.copy_(torch.cat((knots[:, :1] - outside.flip(1), knots, knots[:, -1:] + outside), 1))
        fitted: Tensor = torch.linalg.pinv(self(x).transpose(0, 1)) @ curves
        return fitted.permute(2, 0, 1).reshape(weight.shape)


class Kan(nn.Module):
    """y_u = sum over c of f_uc(x_c), f_uc(z) = base_uc act(z) + sum over k of spline_uck g_k(z)
    (Liu et al., ICLR 2025). The values of the basis g are features, of which one linear map makes all sums.

    With `scaled`, each curve has a factor of its own. FastKAN: `basis = layer_norm -> rbf, bias = true`.
    FasterKAN: `basis = layer_norm -> rswaf, base = none`.
    Chebyshev KAN: `basis = tanh -> chebyshev, base = none`.
    """

    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        self.basis = BSpline(dim)
        self.weight = nn.Parameter(nn.init.uniform_(torch.empty(units, dim, 8), -0.01, 0.01))
        self.scale = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(units, dim), a=5**0.5))
        self.base = nn.Linear(dim, units, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.basis(x)
        y = F.linear(features.flatten(1), (self.weight * self.scale[..., None]).flatten(1))
        return y + self.base(F.silu(x))


class Layer(nn.Module):
    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.kan = Kan(in_dim, units=dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.kan(x)


class KanMlp(nn.Module):
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
