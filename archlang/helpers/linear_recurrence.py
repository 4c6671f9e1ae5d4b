"""Linear recurrences, a chunk at a time."""

import torch
from torch import Tensor

from archlang.helpers.in_chunks import in_chunks
from archlang.helpers.under_decay import under_decay


def linear_recurrence(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    chunk: int = 32,
    bounded: bool = False,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """S_t = exp(log_decay_t) S_{t-1} + k_t v_t^T, o_t = scale * q_t S_t with q, k: [.., t, c], v: [.., t, d] and
    log_decay: [.., t, c] or [.., t, 1]; from S_0 = `start` [.., c, d], or from 0; with `final` also the last
    S, in the dtype of `start`.

    Inside a chunk every query meets the keys before it; the state passes from one chunk to the next. `bounded`: the
    decays of a chunk together are not below exp(-120).
    """

    def inside(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None = None) -> tuple[Tensor, ...]:
        """What the queries read of their own chunk and what they read the state with; what is kept of it; the keys and
        values that are added.
        """
        if log_decay is None:
            return (q @ k.mT).tril() @ v, q, k.new_ones(1, 1, 1), k.mT, v
        scores, q, k, kept = under_decay(q, k, log_decay, bounded)
        return scores @ v, q, kept.mT, k.mT, v

    def step(state: Tensor, own: Tensor, q: Tensor, kept: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return torch.baddbmm(state * kept, k, v), torch.baddbmm(own, q, state)

    return in_chunks(inside, step, (q * scale, k, v, log_decay), start, chunk, final)
