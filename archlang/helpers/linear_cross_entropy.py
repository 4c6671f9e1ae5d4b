"""Cross-entropy right after the layer that makes the logits."""

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor

from archlang.helpers.cross_entropy import cross_entropy

LOGITS = 2**26  # so many are there at a time


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """`cross_entropy` of the logits weight x + bias, for x [.., c] and weight [classes, c]: those of some places at a
    time, which the backward pass makes again.
    """
    x, target = x.reshape(-1, x.shape[-1]), target.flatten()

    def summed(x: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(F.linear(x, weight, bias), target, "sum", ignore_index, label_smoothing, z_loss)

    some = max(1, LOGITS // weight.shape[0])
    if torch.compiler.is_compiling() or x.shape[0] <= some:
        total = summed(x, target)
    else:
        parts = zip(x.split(some), target.split(some), strict=True)
        total = sum(torch.utils.checkpoint.checkpoint(summed, *part, use_reentrant=False) for part in parts)
    return total / (target != ignore_index).sum() if reduction == "mean" else total
