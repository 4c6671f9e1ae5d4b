"""Attention of one query."""

from collections.abc import Callable

import torch
from torch import Tensor

from archlang.helpers.scored_attention import scored_attention


def decode_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float | None = None,
    cap: float | None = None,
    sink: Tensor | None = None,
    score: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Attention of one query a head, q [batch, heads, c], to all of k and v [batch, places, shared, c], each head of
    which serves the queries of several: these are rows of one product. `bias` and `mask` [batch, heads, 1, places] may
    have size 1 along batch and heads; `cap` bounds the scaled products, `sink` [heads, 1, 1] is one more logit to be
    divided by; a `score` stands for softmax.
    """
    group = max(1, q.shape[1] // max(k.shape[2], v.shape[2]))

    def grouped(x: Tensor) -> Tensor:
        """[.., heads, 1, n] -> [.., shared, group, n]"""
        return x if x.shape[-3] == 1 else x.squeeze(-2).unflatten(-2, (-1, group))

    if bias is not None and mask is not None:
        mask = torch.where(mask, bias, float("-inf"))
    seen = bias if mask is None else mask
    out = scored_attention(
        q.unflatten(1, (-1, group)),
        k.transpose(1, 2),
        v.transpose(1, 2),
        seen if seen is None else grouped(seen),
        scale=scale,
        score=score,
        cap=cap,
        sink=sink if sink is None or sink.ndim == 0 else grouped(sink),
    )
    return out.flatten(1, 2)
