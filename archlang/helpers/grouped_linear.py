from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def grouped_linear(x: Tensor, ends: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] = ()) -> Tensor:
    """x W_e^T + b_e for the rows of each expert e, which end at `ends`: [rows, .., c] -> [rows, .., units]; 0 after the
    last.
    """
    counts = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
    *parts, rest = x.split([*counts, x.shape[0] - sum(counts)])
    made = [F.linear(part, weight) for part, weight in zip(parts, weights, strict=True)]
    if biases:
        made = [part + bias for part, bias in zip(made, biases, strict=True)]
    return torch.cat([*made, rest.new_zeros(*rest.shape[:-1], weights[0].shape[0])])
