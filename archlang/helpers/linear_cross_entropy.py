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
    x, places = x.reshape(-1, x.shape[-1]), target.flatten()

    def losses(x: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(F.linear(x, weight, bias), target, "none", ignore_index, label_smoothing, z_loss)

    some = max(1, LOGITS // weight.shape[0])
    if torch.compiler.is_compiling() or x.shape[0] <= some:
        each = losses(x, places)
    else:
        parts = zip(x.split(some), places.split(some), strict=True)
        each = torch.cat([torch.utils.checkpoint.checkpoint(losses, *part, use_reentrant=False) for part in parts])
    if reduction == "none":
        return each.view(target.shape)
    return each.sum() / (places != ignore_index).sum() if reduction == "mean" else each.sum()
