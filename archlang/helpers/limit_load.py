import torch
import torch.nn.functional as F


def limit_load(index: torch.Tensor, experts: int, limit: int, batch_dims: int = 1) -> torch.Tensor:
    """The choices of experts in index [b, ..., k], with `experts` for those of a sample beyond the first `limit`."""
    choices = index.flatten(batch_dims)
    earlier = F.one_hot(choices, experts).cumsum(-2).gather(-1, choices[..., None])[..., 0]
    return torch.where(earlier <= limit, choices, experts).view(index.shape)
