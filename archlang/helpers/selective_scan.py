"""The selective state space model of Mamba."""

import torch
from torch import Tensor

from archlang.helpers.linear_scan import linear_scan


def selective_scan(
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None = None,
    starts: Tensor | None = None,
    reverse: bool = False,
) -> Tensor:
    """y[t] = c[t] h[t] + skip u[t] for h[t] = exp(dt[t] a) h[t - 1] + dt[t] b[t] u[t], in float32 at least.

    u, dt: [.., t, channels]; a: [n, channels]; b, c: [.., t, n]; where `starts`, bool [.., t, 1], h is 0 before.
    The states of 16 positions are in memory at a time, n before the channels; those of all where a compiler decides.
    """
    kind = torch.promote_types(u.dtype, torch.float32)
    given = [x.to(kind) for x in (u, dt, b, c)] + ([] if starts is None else [starts])
    if reverse:
        given = [x.flip(-2) for x in given]
    parts = [given] if torch.compiler.is_compiling() else zip(*(torch.split(x, 16, -2) for x in given), strict=True)
    a, state, outputs = a.to(kind), None, []
    for now, step, write, read, *start in parts:
        decay = torch.exp(step[..., None, :] * a)
        if start:
            decay = decay.masked_fill(start[0][..., None], 0.0)
        x = (step * now)[..., None, :] * write[..., None]
        states = linear_scan(decay.movedim(-3, 0), x.movedim(-3, 0), state)
        state = states[-1]
        outputs.append((read[..., None, :] @ states.movedim(0, -3)).squeeze(-2))
    y = torch.cat(outputs, -2)
    y = (y.flip(-2) if reverse else y).to(u.dtype)
    return y if skip is None else y + skip * u
