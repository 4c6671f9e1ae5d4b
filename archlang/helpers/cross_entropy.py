"""Cross-entropy of classes with a loss for logits that are large."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(
    x: Tensor,
    target: Tensor,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> Tensor:
    """`F.cross_entropy` of x [.., classes] and target [..], and z_loss logsumexp(x)^2 where a target is not ignored."""
    kept = target != ignore_index
    each = F.cross_entropy(
        x.reshape(-1, x.shape[-1]),
        target.flatten(),
        reduction="none",
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )
    each = each.view(target.shape) + z_loss * torch.where(kept, x.logsumexp(-1), 0.0).square()
    if reduction == "none":
        return each
    return each.sum() / kept.sum() if reduction == "mean" else each.sum()
