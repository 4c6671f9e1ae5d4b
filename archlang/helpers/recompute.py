from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(block: nn.Module, *inputs: Any, when: bool) -> Any:
    """What a block makes of its inputs; `when` so, what it makes on the way is not kept for the backward pass, but made
    again there, with the same random numbers. Running statistics move once.
    """

    @contextmanager
    def again() -> Iterator[None]:
        norms = [part for part in block.modules() if isinstance(part, _BatchNorm)]
        before = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, before, strict=True):
                norm.momentum = momentum
                if norm.num_batches_tracked is not None:
                    norm.num_batches_tracked -= 1

    if not when:
        return block(*inputs)
    if torch.compiler.is_compiling():  # which holds what it makes again apart from buffers
        return checkpoint(block, *inputs, use_reentrant=False)
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), again()))
