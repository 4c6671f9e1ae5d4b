"""Diagonal linear systems that do not change with time, where they go on."""

import torch
from torch import Tensor

from archlang.helpers.carried_state import CarriedState
from archlang.helpers.lti_scan import lti_scan


def resumed_lti_scan(
    last: CarriedState,
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    read: Tensor,
    b: Tensor | None = None,
    skip: Tensor | None = None,
) -> Tensor:
    """`lti_scan` from the state x [.., c, n] that was `last`: y[t] = read x[t] + skip u[t] with

    x[t] = exp((t + 1) dt a) x + sum over s <= t of exp((t - s) dt a) (exp(dt a) - 1) / a b u[s].

    A complex state is held as pairs of real numbers.
    """
    weight = torch.expm1(dt * a) / a
    weight = weight if b is None else weight * b
    times = torch.arange(u.shape[-1], device=u.device, dtype=dt.dtype)
    powers = torch.exp((dt * a)[..., None] * times)  # [c, n, t]
    state = (powers.flip(-1) @ u.to(powers.dtype)[..., None]).squeeze(-1) * weight
    y = lti_scan(u, dt, a, read, b, skip)
    if last.held is not None:
        before = torch.view_as_complex(last.held.to(dt.dtype)) if a.is_complex() else last.held
        before = torch.exp(dt * a) * before
        heard = ((read * before)[..., None, :] @ powers).squeeze(-2)
        y = y + (2 * heard.real if heard.is_complex() else heard).to(u.dtype)
        state = state + before * powers[..., -1]
    last.keep(torch.view_as_real(state) if state.is_complex() else state)
    return y
