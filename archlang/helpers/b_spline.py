"""Splines on a grid that can follow the data."""

import torch
from torch import Tensor, nn

from archlang.helpers.cox_de_boor import cox_de_boor


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
