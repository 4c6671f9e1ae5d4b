"""A bias for every offset between two places of a window, computed from the offset."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from archlang.helpers.offset_index import offset_index


class LogCpb(nn.Module):
    """bias[head, i, j] = 16 sigmoid(mlp(x)[head]), x the offset from place j to place i on a scale of logarithms.

    Along an axis x = sign(d) log_8(1 + 8 |d| / (size - 1)), size that of the window trained with.
    """

    offsets: Tensor
    index: Tensor

    def __init__(
        self, window: Sequence[int], heads: int, hidden: int = 512, pretrained: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.steps = [8 / max(size - 1, 1) for size in pretrained or window]
        self.fc1 = nn.Linear(len(window), hidden)
        self.fc2 = nn.Linear(hidden, heads, bias=False)
        reach = torch.meshgrid(*(torch.arange(1 - size, size) for size in window), indexing="ij")
        self.register_buffer("offsets", torch.stack(reach, -1).flatten(0, -2), persistent=False)
        self.register_buffer("index", offset_index(window), persistent=False)

    def forward(self) -> Tensor:
        exact = torch.promote_types(self.fc1.weight.dtype, torch.float32)
        x = self.offsets * torch.tensor(self.steps, dtype=exact, device=self.offsets.device)
        x = (x.sign() * (x.abs() + 1).log2() / 3).to(self.fc1.weight.dtype)
        bias: Tensor = 16 * self.fc2(self.fc1(x).relu()).sigmoid()
        return bias.T[:, self.index]
