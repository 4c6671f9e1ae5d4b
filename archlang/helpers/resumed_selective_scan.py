"""The selective state space model of Mamba, where it goes on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from archlang.helpers.carried_state import CarriedState
from archlang.helpers.selective_scan import selective_scan


def resumed_selective_scan(
    last: CarriedState,
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None = None,
    start: Tensor | None = None,
    core: Callable[..., Any] | None = None,
) -> Tensor:
    """`selective_scan` from the state [.., n, channels] that was `last`, at first from `start`, or from 0; the state is
    held in float32 at least. Without a `core` that takes any number of positions, a single one is a plain step.
    """
    kind = torch.promote_types(u.dtype, torch.float32)
    start = start if last.held is None else last.held
    start = u.new_zeros(*u.shape[:-2], *a.shape, dtype=kind) if start is None else start.to(kind)
    if core is not None or u.shape[-2] > 1:
        y, state = (core or selective_scan)(u, dt, a, b, c, skip, start=start, final=True)
        last.keep(state)
        return y
    now, step, write, read = (x.to(kind) for x in (u, dt, b, c))
    state = torch.addcmul(write.mT * (step * now), (step * a.to(kind)).exp(), start)
    last.keep(state)
    y = (read @ state).to(u.dtype)
    return y if skip is None else torch.addcmul(y, skip, u)
