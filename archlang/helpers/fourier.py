"""The waves of a Fourier series."""

import torch


def fourier(x: torch.Tensor, waves: int) -> torch.Tensor:
    """[..] -> [.., 2 * waves]: cos x, cos 2 x, .., sin x, sin 2 x, .."""
    angles = x[..., None] * torch.arange(1, waves + 1, device=x.device)
    return torch.cat((angles.cos(), angles.sin()), -1)
