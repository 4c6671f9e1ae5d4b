from torch import Tensor


def sorted_choices(index: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """The choices in index, sorted by the expert that is chosen: where those of each expert end, and the place of each
    among all. An index of `experts` is for nobody and comes last.
    """
    choices = index.flatten()
    counts = choices.new_zeros(experts + 1).scatter_add(0, choices, choices.new_ones(choices.shape))
    return counts[:experts].cumsum(0), choices.argsort(stable=True)
