"""Attention with scores of all kinds."""

from collections.abc import Callable

import torch
from torch import Tensor


def scored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    drop: float = 0.0,
    scale: float | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
    logit_mix: Tensor | None = None,
    weight_mix: Tensor | None = None,
) -> Tensor:
    """score(cap * tanh(scale * q k^T / cap) + bias) v over [.., heads, places, c]: softmax where no score is given.
    `mask` is a bool or the bias; `sink` [heads, 1, 1] is one more logit to be divided by; the mixes [heads, heads] are
    applied to logits and weights.
    """
    logits = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    if cap is not None:
        logits = cap * (logits / cap).tanh()
    if logit_mix is not None:
        logits = (logits.movedim(-3, -1) @ logit_mix).movedim(-1, -3)
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask
    if score is not None:
        weights = score(logits)
    else:
        top = logits.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(logits.dtype).min)
        top = top if sink is None else top.maximum(sink.detach())
        weights = (logits - top).exp()
        total = weights.sum(-1, keepdim=True)
        weights = weights / (total + (total == 0) if sink is None else total + (sink - top).exp())
    if weight_mix is not None:
        weights = (weights.movedim(-3, -1) @ weight_mix).movedim(-1, -3)
    return (torch.dropout(weights, drop, True) if drop > 0 else weights) @ v
