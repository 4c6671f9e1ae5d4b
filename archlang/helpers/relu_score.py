"""Rectified scores in the place of softmax."""

from torch import Tensor


def relu_score(logits: Tensor, power: int = 1, count: int = 1) -> Tensor:
    """relu(logits)^power / count"""
    weights = logits.relu()
    return (weights if power == 1 else weights**power) / count
