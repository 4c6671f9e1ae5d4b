"""Attention to what came before."""

import torch
import torch.nn.functional as F
from torch import Tensor

from archlang.helpers.past_mask import past_mask


def past_attention(q: Tensor, k: Tensor, v: Tensor, reach: int | None = None, scale: float | None = None) -> Tensor:
    """softmax(scale * q k^T) v over [batch, heads, places, c], of queries that end at the same position as the keys:
    each sees its own position and those before, as far as `reach`. Keys and values may have fewer heads, each of which
    serves a group of those of queries.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    if queries == 1:  # it sees all, and so does its group
        rows = q.reshape(*k.shape[:-2], -1, q.shape[-1])
        return F.scaled_dot_product_attention(rows, k, v, scale=scale).reshape(*q.shape[:-1], v.shape[-1])
    grouped = q.shape[-3] != k.shape[-3]
    if queries == keys and (reach is None or queries <= reach):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
    if reach is not None and queries > 2 * reach and not torch.compiler.is_compiling():  # in linear time and memory
        outputs = []
        for at in range(0, queries, reach):
            first, last = at + keys - queries, min(at + reach, queries) + keys - queries
            near = slice(max(0, first - reach + 1), last)
            outputs.append(past_attention(q[..., at : at + reach, :], k[..., near, :], v[..., near, :], reach, scale))
        return torch.cat(outputs, -2)
    mask = past_mask(queries, keys, q.device, reach)
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=grouped)
