"""Attention to a cell and to keys that all queries see."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from archlang.helpers.append_keys import append_keys


def attention_beside(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    drop: float = 0.0,
    scale: float | None = None,
    *,
    extra: tuple[Tensor, Tensor],
    core: Callable[..., Tensor],
) -> Tensor:
    """`core` with the keys and values of `extra` [.., places, c] behind those of every cell."""
    mask = mask if mask is None else F.pad(mask, (0, extra[0].shape[-2]), value=mask.dtype == torch.bool)
    return core(q, append_keys(k, extra[0]), append_keys(v, extra[1]), mask, drop, scale=scale)
