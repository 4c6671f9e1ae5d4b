"""Documents packed on one axis."""

import torch
from torch import Tensor


def segment_starts(segments: Tensor, reverse: bool = False) -> Tensor:
    """Where a document starts, bool [.., t, 1] for segments [.., t]; in `reverse`, where it ends."""
    changes = segments[..., 1:] != segments[..., :-1]
    edge = torch.ones_like(segments[..., :1], dtype=torch.bool)
    return torch.cat([changes, edge] if reverse else [edge, changes], -1)[..., None]
