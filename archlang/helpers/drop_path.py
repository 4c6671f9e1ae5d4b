import torch


def drop_path(x: torch.Tensor, rate: float, training: bool, batch: tuple[int, ...] = (0,)) -> torch.Tensor:
    """In training whole samples are 0 with probability `rate`, and the others x / (1 - rate)."""
    if not training or rate == 0:
        return x
    shape = [size if axis in batch else 1 for axis, size in enumerate(x.shape)]
    kept = torch.rand(shape, device=x.device) >= rate
    return x * (kept.to(x.dtype) / (1 - rate))
