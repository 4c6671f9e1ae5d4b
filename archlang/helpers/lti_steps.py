"""Diagonal linear systems that do not change with time, step by step."""

import torch
from torch import Tensor


def lti_steps(
    u: Tensor, dt: Tensor, a: Tensor, read: Tensor, b: Tensor | None = None, skip: Tensor | None = None
) -> Tensor:
    """y = read x + skip u for x' = a x + b u, u constant during steps of dt; with u [.., c, t], dt and skip [c, 1], and
    a, b and read [c, n]: complex ones stand for their conjugates too.
    """
    decay, weight = torch.exp(dt * a), torch.expm1(dt * a) / a
    weight = weight if b is None else weight * b
    state, outputs = torch.zeros_like(weight), []
    for now in u.unbind(-1):
        state = decay * state + weight * now[..., None]
        outputs.append((read * state).sum(-1))
    y = torch.stack(outputs, -1)
    y = (2 * y.real if y.is_complex() else y).to(u.dtype)
    return y if skip is None else y + skip * u
