"""First-order linear recurrences."""

import torch
import torch.nn.functional as F
from torch import Tensor

from archlang.helpers.scan_steps import ScanSteps


def linear_scan(decay: Tensor | float, x: Tensor, state: Tensor | None = None) -> Tensor:
    """h[t] = decay[t] * h[t - 1] + x[t] along the first axis, from h = `state`, which is 0 by default; h is in single
    precision at least.

    In eager mode a loop, whose step is one fused operation. A compiler wants few operations: there, what each position
    knows of those before it is doubled until it knows all. An exported program does so up to 2 ** 20 positions.
    """
    dtype, length = torch.promote_types(x.dtype, decay.dtype) if isinstance(decay, Tensor) else x.dtype, x.shape[0]
    x = x.to(torch.promote_types(dtype, torch.float32))
    decay = decay.to(x.dtype) if isinstance(decay, Tensor) else torch.full_like(x[:1], decay).expand_as(x)
    if not torch.compiler.is_compiling():
        state = None if state is None else state.to(x.dtype).expand_as(x[0])
        states: Tensor = ScanSteps.apply(decay, x.clone(), state, 0)  # type: ignore[no-untyped-call]
        return states.to(dtype)
    if state is not None:
        x = torch.cat([torch.addcmul(x[:1], decay[:1], state.to(x.dtype)), x[1:]])
    reach = 2**20 if torch.compiler.is_exporting() else length
    for step in (2**i for i in range((reach - 1).bit_length())):
        ahead = [0, 0] * (x.ndim - 1) + [step, 0]
        x = torch.addcmul(x, decay, F.pad(x, ahead)[:length])
        decay = decay * F.pad(decay, ahead)[:length]
    return x.to(dtype)
