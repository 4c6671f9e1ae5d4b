"""A path over a map that turns round at the end of each line."""

import torch


def snake_order(*sizes: int, device: torch.device | None = None) -> torch.Tensor:
    """The flat positions of a map of these sizes line by line, every second line backwards."""
    path = torch.zeros(1, dtype=torch.long, device=device)
    for size in sizes:
        lines = torch.arange(len(path), device=device)[:, None]
        steps = torch.arange(size, device=device).expand(len(path), size)
        path = (path[:, None] * size + torch.where(lines % 2 == 0, steps, size - 1 - steps)).flatten()
    return path
