"""Weights in oneDNN's own layout, made once and kept beside the module, never in it."""

from collections.abc import Callable
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.autograd import forward_ad

_PACKED: dict[int, tuple[Any, int, int, dict[object, Tensor]]] = {}  # by id: the weight, its writes, its place
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_MOST = 8  # shapes that a weight is packed for


def packed(weight: Tensor, shape: object, pack: Callable[[Tensor], Tensor]) -> Tensor:
    """pack(weight), once for each `shape` of the input until the weight is written to, moves or dies."""
    key, writes, place = id(weight), weight._version, weight.data_ptr()
    kept = _PACKED.get(key)
    if kept is None or kept[0]() is not weight or kept[1:3] != (writes, place) or len(kept[3]) > _MOST:
        kept = _PACKED[key] = ref(weight, lambda gone: _forget(key, gone)), writes, place, {}
    made = kept[3].get(shape)
    if made is None:
        made = kept[3][shape] = pack(weight.detach())
    return made


def _forget(key: int, gone: object) -> None:
    if (kept := _PACKED.get(key)) and kept[0] is gone:
        del _PACKED[key]


def packs(x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None) -> bool:
    """Whether oneDNN takes these: float32 on a CPU, and no gradient is wanted."""
    wanted = torch.is_grad_enabled()
    for each in (x, weight, bias, other):
        if each is not None and (not each.is_cpu or each.dtype != torch.float32 or (wanted and each.requires_grad)):
            return False
    if not _ONEDNN or torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting() or x.numel() == 0:
        return False
    return torch.compiler.is_compiling() or (
        _plain(x) and _plain(weight) and not weight.is_inference() and _unwatched()
    )


def _plain(x: Tensor) -> bool:
    return type(x) is Tensor or type(x) is torch.nn.Parameter


def _unwatched() -> bool:
    """No transform of functions, no derivative in the direction of an input."""
    return torch._C._functorch.peek_interpreter_stack() is None and forward_ad._current_level < 0


def operation(name: str, inputs: str, run: Callable[..., Tensor], shape: Callable[..., Tensor]) -> None:
    """`run` as `torch.ops.archlang.name`: what torch.compile calls, and looks into no layout. In parts, since a call of
    a `custom_op` takes four times as long; once, whichever module is the first to have it.
    """
    if not hasattr(torch.ops.archlang, name):
        torch.library.define(f"archlang::{name}", f"({inputs}) -> Tensor")
        torch.library.impl(f"archlang::{name}", "CPU", run)
        torch.library.register_fake(f"archlang::{name}", shape)
