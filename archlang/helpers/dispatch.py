import torch


def dispatch(x: torch.Tensor, index: torch.Tensor, experts: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """The tokens of x [..., *rest] that each expert is chosen for by index [..., k], and the places of these among all
    choices. An index of `experts` is for nobody.
    """
    choices = index.flatten()
    order = choices.argsort(stable=True)
    counts = choices.new_zeros(experts + 1).scatter_add(0, choices, torch.ones_like(choices))
    tokens = x.flatten(0, index.ndim - 2)[order // index.shape[-1]]
    return torch.split(tokens, counts.tolist())[:experts], order
