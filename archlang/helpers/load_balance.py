import torch


def load_balance(probability: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The balance loss of experts with probability [..., experts] that index [..., k] chooses among."""
    experts, tokens = probability.shape[-1], probability.flatten(0, -2)
    choices = index.flatten()
    chosen = tokens.new_zeros(experts).scatter_add(0, choices, torch.ones_like(choices, dtype=tokens.dtype))
    return experts * (chosen / tokens.shape[0] * tokens.mean(0)).sum()
