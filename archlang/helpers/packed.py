"""Weights in oneDNN's own layout, made once and kept beside the module, never in it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.weak import WeakTensorKeyDictionary

_PACKED: Any = WeakTensorKeyDictionary()
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_MOST = 8  # shapes that a weight is packed for


def packed(weight: Tensor, shape: object, pack: Callable[[Tensor], Tensor]) -> Tensor:
    """pack(weight), once for each `shape` of the input until the weight is written to, moves or dies."""
    now = (weight._version, weight.data_ptr(), weight.shape, weight.stride())
    then, known = _PACKED.get(weight, (None, {}))
    if then != now or len(known) > _MOST:
        known = {}
        _PACKED[weight] = now, known
    if shape not in known:
        known[shape] = pack(weight.detach())
    made: Tensor = known[shape]
    return made


def packs(x: Tensor, weight: Tensor, *others: Tensor | None) -> bool:
    """Whether oneDNN takes these: float32 on a CPU, and no gradient is wanted."""
    given = [x, weight, *(other for other in others if other is not None)]
    return (
        all(each.device.type == "cpu" and each.dtype == torch.float32 for each in given)
        and not (torch.is_grad_enabled() and any(each.requires_grad for each in given))
        and not torch.is_autocast_enabled("cpu")
        and _ONEDNN
        and x.numel() > 0
        and not torch.compiler.is_exporting()
        and (torch.compiler.is_compiling() or _plain(given))
    )


def _plain(given: list[Tensor]) -> bool:
    """Whether these are tensors with memory and a count of writes, and nothing watches them."""
    wrapped = any(torch._C._functorch.is_functorch_wrapped_tensor(each) for each in given)
    usual = all(type(each) in (Tensor, torch.nn.Parameter) for each in given) and not given[1].is_inference()
    return usual and not wrapped and forward_ad._current_level < 0
