"""TensorFlow's SAME padding where the size is not known before."""

import torch
import torch.nn.functional as F


def pad_same(
    x: torch.Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    mode: str = "constant",
    value: float = 0.0,
) -> torch.Tensor:
    """Pad the last axes by as few positions as give ceil(size / stride) windows, the odd one at the end."""
    amounts: list[int] = []
    for size, k, s, d in zip(reversed(x.shape), reversed(kernel), reversed(stride), reversed(dilation)):
        fill = torch.sym_max(((size + s - 1) // s - 1) * s + d * (k - 1) + 1 - size, 0)
        amounts += [fill // 2, fill - fill // 2]
    return F.pad(x, amounts, mode, value)
