"""Linear recurrences, a chunk at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor

from archlang.helpers.decayed_scores import decayed_scores
from archlang.helpers.segment_sums import segment_sums


def linear_recurrence(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None = None, scale: float = 1.0, chunk: int = 64
) -> Tensor:
    """S_t = exp(log_decay_t) S_{t-1} + k_t v_t^T, o_t = scale * q_t S_t with q, k: [.., t, c], v: [.., t, d] and
    log_decay: [.., t, c] or [.., t, 1].

    Inside a chunk every query meets the keys before it; the state passes from one chunk to the next.
    """
    length, dtype = q.shape[-2], torch.promote_types(q.dtype, torch.float32)

    def chunks(x: Tensor) -> Tensor:
        x = x.to(dtype).expand(*x.shape[:-2], length, x.shape[-1])
        return F.pad(x, (0, 0, 0, -length % chunk)).reshape(*x.shape[:-2], -1, chunk, x.shape[-1])

    q, k, v = chunks(q) * scale, chunks(k), chunks(v)
    decay = k.new_ones(1, 1, 1)
    if log_decay is None:
        scores = (q @ k.mT).tril()
    else:
        steps = chunks(log_decay)
        one = steps.shape[-1] == 1
        scores = (q @ k.mT) * segment_sums(steps[..., 0]).exp() if one else decayed_scores(q, k, steps)
        since = steps.cumsum(-2)
        q, k, decay = q * since.exp(), k * (since[..., -1:, :] - since).exp(), since[..., -1:, :].mT.exp()
    added = k.mT @ v
    decay = decay.expand(*decay.shape[:-3], added.shape[-3], *decay.shape[-2:])
    state, states = torch.zeros_like(added[..., 0, :, :] * decay[..., 0, :, :]), []
    for kept, more in zip(decay.unbind(-3), added.unbind(-3), strict=True):
        states.append(state)
        state = state * kept + more
    return (scores @ v + q @ torch.stack(states, -3)).flatten(-3, -2)[..., :length, :].to(v.dtype)
