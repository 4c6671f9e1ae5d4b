"""How each mode of `resize` weighs the old positions of one axis: the obvious matrix, for the meaning of it."""

from collections.abc import Callable, Iterator
from typing import Any

# on how many axes PyTorch has the mode, and whether it can filter against aliasing
MODES: dict[str, tuple[tuple[int, ...], bool]] = {
    "nearest": ((1, 2, 3), False),
    "nearest-exact": ((1, 2, 3), False),
    "linear": ((1, 2, 3), True),
    "bilinear": ((2,), True),
    "trilinear": ((3,), False),
    "cubic": ((2,), True),
    "bicubic": ((2,), True),
    "area": ((1, 2, 3), False),
}


def _triangle(x: float) -> float:
    return max(1 - abs(x), 0.0)


def _keys(a: float) -> Callable[[float], float]:
    """Keys' cubic convolution kernel."""

    def kernel(x: float) -> float:
        x = abs(x)
        if x < 1:
            return ((a + 2) * x - (a + 3)) * x * x + 1
        return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0

    return kernel


def matrix(mode: str, old: int, new: int, align_corners: bool, antialias: bool, like: Any) -> Any:
    """weights[o, i]: what position i of the old axis is worth at position o of the new one; a tensor like `like`."""
    rows = like.new_zeros(new, old)
    for o in range(new):
        for i, weight in _row(mode, o, old, new, align_corners, antialias):
            rows[o, min(max(i, 0), old - 1)] += weight
    return rows


def _row(mode: str, o: int, old: int, new: int, align_corners: bool, antialias: bool) -> Iterator[tuple[int, float]]:
    if mode == "nearest":
        return iter([(o * old // new, 1.0)])
    if mode == "nearest-exact":
        return iter([((2 * o + 1) * old // (2 * new), 1.0)])
    if mode == "area":
        seen = range(o * old // new, -(-(o + 1) * old // new))
        return ((i, 1 / len(seen)) for i in seen)
    cubic = "cubic" in mode
    if antialias:
        return _filtered(
            _keys(-0.5) if cubic else _triangle,
            2 if cubic else 1,
            (o + 0.5) * old / new - 0.5,
            max(old / new, 1.0),
            old,
        )
    place = o * (old - 1) / max(new - 1, 1) if align_corners else (o + 0.5) * old / new - 0.5
    kernel, support = (_keys(-0.75), 2) if cubic else (_triangle, 1)
    below = place.__floor__()
    return ((i, kernel(i - place)) for i in range(below - support + 1, below + support + 1))


def _filtered(
    kernel: Callable[[float], float], support: int, place: float, wide: float, old: int
) -> Iterator[tuple[int, float]]:
    """The kernel stretched by `wide`, cut at the borders, and summing to one."""
    weights = {i: kernel((i - place) / wide) for i in range(old) if abs(i - place) < support * wide}
    return ((i, weight / sum(weights.values())) for i, weight in weights.items())
