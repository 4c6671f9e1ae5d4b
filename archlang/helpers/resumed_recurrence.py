"""Linear recurrences that go on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from archlang.helpers.carried_state import CarriedState
from archlang.helpers.recurrence_steps import recurrence_steps


def resumed_recurrence(
    last: CarriedState,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None = None,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    start: Tensor | None = None,
    core: Callable[..., Any] | None = None,
    steps: Callable[..., Any] = recurrence_steps,
    **options: Any,
) -> Tensor:
    """What `core` makes in chunks of q, k [.., t, c] and v [.., t, d], from the state [.., c, d] that was `last`, at
    first from `start`, or from 0. The state is held in float32 at least. Few positions, or all where there is no core,
    are taken one at a time, by `steps`.
    """
    start = start if last.held is None else last.held
    dtype = torch.promote_types(v.dtype, torch.float32)
    start = v.new_zeros(k.shape[-1], v.shape[-1], dtype=dtype) if start is None else start.to(dtype)
    given: dict[str, Any] = {"log_decay": log_decay, "scale": scale, "start": start, "final": True}
    given |= {} if beta is None else {"beta": beta}
    y: Tensor
    if core is None:
        y, state = steps(q, k, v, **given)
    elif k.shape[-2] > 4:
        y, state = core(q, k, v, **given, **options)
    else:
        given["log_decay"] = None if log_decay is None else log_decay[..., None]
        y, state = steps(q, k, v, **given)
    last.keep(state.contiguous())
    return y
