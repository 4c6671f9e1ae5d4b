"""A learned bias for every range of distances between a query and a key."""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class T5Bias(nn.Module):
    """bias[head, i, j] = weight[bucket of the distance from query i to key j, head]

    The first half of the buckets hold one distance each, the others ranges that grow by one factor up to `distance`.
    Seen both ways, the later keys have buckets of their own, behind those of the earlier ones.
    """

    def __init__(self, buckets: int, heads: int, distance: int = 128) -> None:
        super().__init__()
        self.buckets, self.distance = buckets, distance
        self.weight = nn.Parameter(torch.randn(buckets, heads))

    def forward(self, size: int, causal: bool = False, past: int = 0) -> Tensor:
        """Of the queries behind `past` ones, and all keys."""
        device = self.weight.device
        place = torch.arange(past + size, device=device)
        ahead = place - place[past:, None]
        buckets = self.buckets if causal else self.buckets // 2
        apart = (-ahead).clamp(min=0) if causal else ahead.abs()
        single = buckets // 2
        growth = (apart.clamp(min=1) / single).log() / log(self.distance / single)
        far = (single + (growth * (buckets - single)).long()).clamp(max=buckets - 1)
        bucket = torch.where(apart < single, apart, far)
        if not causal:
            bucket = bucket + buckets * (ahead > 0)
        return F.embedding(bucket, self.weight).permute(2, 0, 1)
