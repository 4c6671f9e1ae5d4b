"""The selective state space model of Mamba."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from archlang.helpers.linear_scan import linear_scan
from archlang.helpers.scan_steps import ScanSteps


def selective_scan(
    u: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None = None,
    starts: Tensor | None = None,
    reverse: bool = False,
    start: Tensor | None = None,
    final: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """y[t] = c[t] h[t] + skip u[t] for h[t] = exp(dt[t] a) h[t - 1] + dt[t] b[t] u[t], in float32 at least.

    u, dt: [.., t, channels]; a: [n, channels]; b, c: [.., t, n]; where `starts`, bool [.., t, 1], h is 0 before;
    h starts from `start` [.., n, channels], or from 0. With `final` also the last h, in the dtype of `start`.
    No more than 2 ** 18 states are at work at once, n before the channels; those of all positions under a compiler.
    """
    kind, whole = torch.promote_types(u.dtype, torch.float32), torch.compiler.is_compiling()
    given = [x.to(kind) for x in (u, dt, b, c)] + ([] if starts is None else [starts])
    if reverse:
        given = [x.flip(-2) for x in given]
    parts: Iterable[Sequence[Tensor]] = [given]
    if not whole:
        some = max(1, 2**18 // max(1, math.prod(u.shape[:-2]) * a.numel()))
        parts = zip(*(x.split(some, -2) for x in given), strict=True)
    a = (math.log2(math.e) * a.to(kind)).contiguous()
    lead = u.shape[:-2]
    state, outputs = None if start is None else start.to(kind).expand(*lead, *a.shape), []
    for now, step, write, read, *first in parts:
        decay = (step[..., None, :] * a).exp2_()
        if first:
            decay = decay.masked_fill(first[0][..., None], 0.0)
        x = (step * now)[..., None, :] * write[..., None]
        if whole:
            states = linear_scan(decay.movedim(-3, 0), x.movedim(-3, 0), state).movedim(0, -3)
        else:
            states = ScanSteps.apply(decay, x, state, -3)  # type: ignore[no-untyped-call]
        state = states.select(-3, -1).clone()  # the rest of the states can go
        outputs.append((read[..., None, :] @ states).squeeze(-2))
    y = torch.cat(outputs, -2)
    y = (y.flip(-2) if reverse else y).to(u.dtype)
    y = y if skip is None else torch.addcmul(y, skip, u)
    if not final or state is None:
        return y
    return y, state.expand(*lead, *a.shape).to(u.dtype if start is None else start.dtype)
