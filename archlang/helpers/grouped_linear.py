from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from archlang.helpers.chosen_rows import chosen_rows


def grouped_linear(
    x: Tensor, ends: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] = (), order: Tensor | None = None
) -> Tensor:
    """x W_e^T + b_e for the rows of each expert e, which end at `ends`: [rows, .., c] -> [rows, .., units]; 0 after the
    last. With `order` the rows are those of x [token, .., c] at the tokens of these choices.
    """
    x = x if order is None else chosen_rows(x, order)
    counts = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
    *parts, rest = x.split([*counts, x.shape[0] - sum(counts)])
    made = [F.linear(part, weight) for part, weight in zip(parts, weights, strict=True)]
    if biases:
        made = [part + bias for part, bias in zip(made, biases, strict=True)]
    return torch.cat([*made, rest.new_zeros(*rest.shape[:-1], weights[0].shape[0])])
