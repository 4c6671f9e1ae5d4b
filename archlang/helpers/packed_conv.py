"""Convolutions on packed weights, channels last."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from archlang.helpers.epilogue import EPILOGUES, epilogue
from archlang.helpers.packed import operation, packed, packs


def packed_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    activation: str = "none",
    other: Tensor | None = None,
) -> Tensor:
    """activation(conv(x) + bias), or conv(x) + bias + other (of the same shape), by oneDNN on weights that it has laid
    out once, with the channels last in memory. Where it cannot do so, or gradients are wanted, the plain formula.
    """
    rank = x.ndim - 2
    if rank not in (2, 3) or not packs(x, weight, bias, other):
        plain = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        y = epilogue(plain(x, weight, bias, stride, padding, dilation, groups), activation)
        return y if other is None else y + other
    run: Any = torch.ops.archlang.packed_conv if torch.compiler.is_compiling() else _packed_conv
    how = ((each,) * rank if isinstance(each, int) else tuple(each) for each in (stride, padding, dilation))
    made: Tensor = run(x, weight, bias, *how, groups, activation, other)
    return made


def _packed_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    activation: str,
    other: Tensor | None,
) -> Tensor:
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    x, how = x.contiguous(memory_format=last), (padding, stride, dilation, groups)
    pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight if x.ndim == 4 else torch._C._nn.mkldnn_reorder_conv3d_weight
    laid_out = packed(
        weight, (x.shape, *map(tuple, how[:3])), lambda w: pack(w.contiguous().to_mkldnn(), *how, x.shape)
    )
    made: Tensor
    run = torch.ops.mkldnn._convolution_pointwise
    if other is None:
        made = run(x, laid_out, bias, *how, *EPILOGUES[activation])
    else:
        other = other.contiguous(memory_format=last)
        made = run.binary(x, other, laid_out, bias, *how, "add", 1.0, None, [], None)
    return made


def _shape(x: Tensor, weight: Tensor, bias: Tensor | None, *how: Any) -> Tensor:
    """A tensor like the result, channels last."""
    kernel, (stride, padding, dilation, *_) = weight.shape[2:], how
    space = [
        (size + 2 * pad - gap * (side - 1) - 1) // step + 1
        for size, pad, gap, side, step in zip(x.shape[2:], padding, dilation, kernel, stride, strict=True)
    ]
    return x.new_empty(x.shape[0], *space, weight.shape[0]).movedim(-1, 1)


operation(
    "packed_conv",
    "Tensor x, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
    "str activation, Tensor? other",
    _packed_conv,
    _shape,
)
