"""An activation that is learned, one for each group of channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from archlang.helpers.rational_function import RationalFunction


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
