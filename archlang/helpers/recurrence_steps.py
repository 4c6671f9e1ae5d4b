"""Linear recurrences, a position at a time."""

import torch
from torch import Tensor


def recurrence_steps(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None = None,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """S_t = (I - beta_t k_t k_t^T) (exp(log_decay_t) * S_{t-1}) + beta_t k_t v_t^T, o_t = scale * q_t S_t with
    q, k: [.., t, c], v: [.., t, d], beta: [.., t, 1] and log_decay: [.., t, c, d], where c and d may be 1; from S_0 =
    `start` [.., c, d], or from 0; with `final` also the last S, in the dtype of `start`.
    """
    length, dtype = q.shape[-2], torch.promote_types(q.dtype, torch.float32)
    queries, keys, values = (q * scale).to(dtype)[..., None, :], k.to(dtype)[..., None], v.to(dtype)[..., None, :]
    decay = None if log_decay is None else log_decay.to(dtype).exp().expand(*log_decay.shape[:-3], length, -1, -1)
    zero = values.new_zeros(k.shape[-1], v.shape[-1])
    state, kind = (zero, v.dtype) if start is None else (start.to(dtype), start.dtype)
    given = (state, queries[..., 0], keys[..., 0], values[..., 0], beta, None if decay is None else decay[..., 0])
    state = state.expand(*torch.broadcast_shapes(*(x.shape[:-2] for x in given if x is not None)), *zero.shape)
    outputs = []
    for t in range(length):
        if decay is not None:
            state = state * decay[..., t, :, :]
        key, value = keys[..., t, :, :], values[..., t, :, :]
        if beta is not None:
            value = (value - key.mT @ state) * beta[..., t, :, None]
        state = torch.addcmul(state, key, value)
        outputs.append(queries[..., t, :, :] @ state)
    y = torch.cat(outputs, -2).to(v.dtype)
    return (y, state.to(kind)) if final else y
