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
    for i in range(-1, -1 - len(kernel), -1):
        windows = (x.shape[i] + stride[i] - 1) // stride[i]
        fill = (windows - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - x.shape[i]
        fill = torch.sym_max(fill, 0)
        amounts += [fill // 2, fill - fill // 2]
    return F.pad(x, amounts, mode, value)
