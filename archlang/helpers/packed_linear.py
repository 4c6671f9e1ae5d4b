"""Linear layers on packed weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

from archlang.helpers.epilogue import EPILOGUES, epilogue
from archlang.helpers.packed import operation, packed, packs


def packed_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none", other: Tensor | None = None
) -> Tensor:
    """activation(x weight^T + bias), or x weight^T + bias + other (of the same shape), by oneDNN on weights that it has
    laid out once. Where it cannot do so, or gradients are wanted, the plain formula.
    """
    if not packs(x, weight, bias, other):
        y = epilogue(F.linear(x, weight, bias), activation)
        return y if other is None else y + other
    if torch.compiler.is_compiling():
        made: Tensor = torch.ops.archlang.packed_linear(x, weight, bias, activation, other)
        return made
    return _packed_linear(x, weight, bias, activation, other)


def _packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, other: Tensor | None) -> Tensor:
    rows = 1 << (x.numel() // x.shape[-1] - 1).bit_length()  # one layout serves sizes that are near
    laid_out = packed(weight, rows, lambda plain: torch.ops.mkldnn._reorder_linear_weight(plain.contiguous(), rows))
    made: Tensor
    if other is not None:
        made = torch.ops.mkldnn._linear_pointwise.binary(x, other, laid_out, bias, "add")
    else:
        made = torch.ops.mkldnn._linear_pointwise(x, laid_out, bias, *EPILOGUES[activation])
    return made


operation(
    "packed_linear",
    "Tensor x, Tensor weight, Tensor? bias, str activation, Tensor? other",
    _packed_linear,
    lambda x, weight, bias, activation, other: x.new_empty(*x.shape[:-1], weight.shape[0]),
)
