"""Sequences, a chunk at a time."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def in_chunks(
    inside: Callable[..., tuple[Tensor, ...]],
    step: Callable[..., tuple[Tensor, Tensor]],
    inputs: Sequence[Tensor | None],
    start: Tensor | None,
    chunk: int,
    final: bool,
    segment: int = 256,
) -> Tensor | tuple[Tensor, Tensor]:
    """q, k: [.., t, c], v: [.., t, d] and what else there is, in chunks of t: `inside` makes of several chunks side by
    side what `step` takes of each, all leading axes as one, to lead a state [b, c, d] on, from 0 or from `start`
    [.., c, d], and give the output; with `final` also the state after the last position, in the dtype of `start`. No
    more than a segment is at work at once, which bounds the memory.
    """
    given = [x for x in inputs if x is not None]
    k, v, exporting = given[1], given[2], torch.compiler.is_exporting()
    length, dtype = k.shape[-2], torch.promote_types(k.dtype, torch.float32)
    count = length // chunk + 2 if exporting else -(-length // chunk)
    end = count * chunk - length

    def chunks(x: Tensor) -> Tensor:
        x = x.to(dtype).expand(*x.shape[:-2], length, x.shape[-1])
        x = F.pad(x, (0, 0, 0, end)) if exporting or end else x
        if exporting:
            return x[..., torch.arange(count)[:, None] * chunk + torch.arange(chunk), :]
        return x.reshape(*x.shape[:-2], count, chunk, x.shape[-1])

    parts = [chunks(x) for x in given]
    zero = v.new_zeros(k.shape[-1], v.shape[-1], dtype=dtype)
    state, kind = (zero, v.dtype) if start is None else (start.to(dtype), start.dtype)
    lead = torch.broadcast_shapes(state.shape[:-2], *(x.shape[:-3] for x in parts))

    state, outputs = state.expand(*lead, *zero.shape).reshape(-1, *zero.shape), []
    if exporting:  # a loop of free length
        from torch._higher_order_ops.scan import scan

        def one(state: Tensor, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
            made = inside(*(x.reshape(-1, 1, *x.shape[-2:]) for x in parts))
            return step(state, *(x.squeeze(-3) for x in made))

        wide = [x.expand(*lead, *x.shape[-3:]).movedim(-3, 0) for x in parts]
        state, made = scan(one, state.contiguous(), wide)
        made = F.pad(made.movedim(0, -3).flatten(-3, -2), (0, 0, 0, -end))
    else:
        for some in zip(*(x.split(max(1, segment // chunk), -3) for x in parts), strict=True):
            made = inside(*(x.contiguous() for x in some))
            rows = (x.expand(*lead, some[1].shape[-3], *x.shape[-2:]) for x in made)
            for row in zip(*(x.reshape(-1, *x.shape[-3:]).unbind(-3) for x in rows), strict=True):
                state, output = step(state, *row)
                outputs.append(output)
        made = torch.cat(outputs, -2)[:, :length]
    made = made.reshape(*lead, length, v.shape[-1]).to(v.dtype)
    return (made, state.reshape(*lead, *zero.shape).to(kind)) if final else made
