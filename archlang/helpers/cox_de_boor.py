"""B-splines on any knots."""

from torch import Tensor


def cox_de_boor(x: Tensor, grid: Tensor, order: int) -> Tensor:
    """[.., dim] -> [.., dim, knots - order - 1]: the B-splines of a degree on the knots `grid` [dim, knots], from those
    of lower degrees.
    """
    x = x[..., None]
    y = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for d in range(1, order + 1):
        rise = (x - grid[:, : -d - 1]) / (grid[:, d:-1] - grid[:, : -d - 1])
        fall = (grid[:, d + 1 :] - x) / (grid[:, d + 1 :] - grid[:, 1:-d])
        y = rise * y[..., :-1] + fall * y[..., 1:]
    return y
