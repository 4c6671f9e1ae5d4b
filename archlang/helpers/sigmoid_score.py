"""Sigmoids in the place of softmax."""

from torch import Tensor


def sigmoid_score(logits: Tensor, bias: float) -> Tensor:
    """sigmoid(logits + bias)"""
    return (logits + bias).sigmoid()
