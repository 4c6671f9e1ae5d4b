import torch


def first_exit(values: list[torch.Tensor], leaves: list[torch.Tensor]) -> torch.Tensor:
    """For each sample the first value whose exit it leaves by, else the last."""
    *exits, result = values
    for value, leave in zip(reversed(exits), reversed(leaves), strict=True):
        result = torch.where(leave, value, result)
    return result
