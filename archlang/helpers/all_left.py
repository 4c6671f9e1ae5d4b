import torch


def all_left(*leaves: torch.Tensor) -> bool:
    """Whether every sample has left by one of the exits; a compiler sees the whole network, for it nobody leaves."""
    return not torch.compiler.is_compiling() and bool(torch.stack(leaves).any(0).all())
