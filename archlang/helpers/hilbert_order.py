"""Hilbert's curve over a square."""

import torch


def hilbert_order(side: int) -> torch.Tensor:
    """The flat positions of a square along Hilbert's curve: each quarter is the whole, two of them turned."""
    row, column = torch.zeros(2, 1, dtype=torch.long)
    half = 1
    while half < side:
        row, column = (
            torch.cat([column, row + half, row + half, half - 1 - column]),
            torch.cat([row, column, column + half, 2 * half - 1 - row]),
        )
        half *= 2
    path: torch.Tensor = row * side + column
    return path
