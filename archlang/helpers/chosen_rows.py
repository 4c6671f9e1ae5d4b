from torch import Tensor


def chosen_rows(x: Tensor, order: Tensor) -> Tensor:
    """The rows of x [token, ..] at the tokens of the choices in `order`, where each token has the same number of them,
    side by side.
    """
    return x[order // (order.shape[0] // max(x.shape[0], 1))]
