"""Windows back to a signal: the adjoint of cutting it into windows."""

import itertools
from typing import Any

import torch


def overlap_add(
    x: torch.Tensor,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    left: tuple[int, ...],
) -> torch.Tensor:
    """Sum windows [.., *counts, taps] to [.., *size]: tap k of window o goes to o * stride + k * dilation - left."""
    axes = range(len(size))
    counts = x.shape[-1 - len(size) : -1]
    spans = [(counts[i] - 1) * stride[i] + 1 for i in axes]
    ends = [max(left[i] + size[i], dilation[i] * (kernel[i] - 1) + spans[i]) for i in axes]
    y = x.new_zeros((*x.shape[: -1 - len(size)], *ends))
    for tap, k in enumerate(itertools.product(*map(range, kernel))):
        starts = [k[i] * dilation[i] for i in axes]
        places: tuple[Any, ...] = (..., *(slice(starts[i], starts[i] + spans[i], stride[i]) for i in axes))
        y[places] += x[..., tap]
    inside: tuple[Any, ...] = (..., *(slice(left[i], left[i] + size[i]) for i in axes))
    return y[inside]
