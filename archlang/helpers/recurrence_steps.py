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
) -> Tensor:
    """S_t = (I - beta_t k_t k_t^T) (exp(log_decay_t) * S_{t-1}) + beta_t k_t v_t^T, o_t = scale * q_t S_t with
    q, k: [.., t, c], v: [.., t, d], beta: [.., t, 1] and log_decay: [.., t, c, d]; from S_0 = `start` [.., c, d],
    or from 0.
    """
    length, dtype = q.shape[-2], torch.promote_types(q.dtype, torch.float32)
    keys, values = k.to(dtype)[..., None], v.to(dtype)[..., None, :]
    decay = None if log_decay is None else log_decay.to(dtype).exp().expand(*log_decay.shape[:-3], length, -1, -1)
    state, outputs = keys.new_zeros(()) if start is None else start.to(dtype), []
    for t in range(length):
        if decay is not None:
            state = state * decay[..., t, :, :]
        key, value = keys[..., t, :, :], values[..., t, :, :]
        if beta is not None:
            value = (value - (state * key).sum(-2, keepdim=True)) * beta[..., t, :, None]
        state = state + key * value
        outputs.append((q[..., t, :, None] * state).sum(-2))
    return torch.stack(outputs, -2).mul(scale).to(v.dtype)
