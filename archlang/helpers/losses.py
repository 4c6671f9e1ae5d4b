import torch


class Losses(dict[str, torch.Tensor]):
    """Auxiliary losses by name, one value for each place of the network; copies and saved modules go without them."""

    def __deepcopy__(self, memo: object) -> "Losses":
        return Losses()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Losses, ()
