import torch


def label_dropout(label: torch.Tensor, rate: float, null: int, training: bool) -> torch.Tensor:
    """In training a label becomes `null` with probability `rate`."""
    if rate == 0 or not training:
        return label
    return label.masked_fill(torch.rand(label.shape, device=label.device) < rate, null)
