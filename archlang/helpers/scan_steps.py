"""First-order linear recurrences, one step after another, with a gradient that is one too."""

from typing import Any

import torch
from torch import Tensor


class ScanSteps(torch.autograd.Function):
    """h[t] = decay[t] * h[t - 1] + x[t] along an axis, from h = `state` or 0, in the place of x.

    With dy for the gradient of h, that of x is dx[t] = decay[t + 1] * dx[t + 1] + dy[t]: the scan from the end.
    """

    @staticmethod
    def forward(ctx: Any, decay: Tensor, x: Tensor, state: Tensor | None, axis: int) -> Tensor:
        before = state
        for factor, here in zip(decay.unbind(axis), x.unbind(axis), strict=True):
            before = here if before is None else here.addcmul_(factor, before)
        ctx.mark_dirty(x)
        ctx.save_for_backward(decay, x if ctx.needs_input_grad[0] else None, state)
        ctx.axis = axis
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (decay, states, state), axis = ctx.saved_tensors, ctx.axis
        after = decay.roll(-1, axis)
        dx: Tensor = ScanSteps.apply(after.flip(axis), grad.flip(axis), None, axis).flip(axis)  # type: ignore[no-untyped-call]
        dstate = None if state is None else dx.select(axis, 0) * decay.select(axis, 0)
        if states is None:
            return None, dx, dstate, None
        first = torch.zeros_like(states.select(axis, 0)) if state is None else state
        before = torch.cat([first.unsqueeze(axis), states.narrow(axis, 0, states.shape[axis] - 1)], axis)
        return dx * before, dx, dstate, None
