import torch


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if rate == 0 or not training:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    return x * (x.new_empty(shape).bernoulli_(1 - rate) / (1 - rate))
