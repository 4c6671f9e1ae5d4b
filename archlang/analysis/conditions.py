"""Conditions on free sizes as bounds for `torch.export`."""

from collections.abc import Iterable, Mapping
from math import lcm
from typing import Any

from archlang.shapes import TensorType
from archlang.sizes import Condition, Poly, Size, symbol, symbols


def dynamic_shapes(inputs: Mapping[str, TensorType], conditions: Iterable[Condition]) -> dict[str, dict[int, Any]]:
    """For each input its free axes by position, as `torch.export.Dim`: `32 | h` becomes `32 * Dim("h_32")`, `h >= 7` a
    lower bound.
    """
    found = list(conditions)
    free = dict.fromkeys(name for type_ in inputs.values() for axis in type_ for name in sorted(symbols(axis.size)))
    dims = {name: _dim(name, found) for name in free}
    return {
        port: {i: _size(axis.size, dims) for i, axis in enumerate(type_) if isinstance(axis.size, Poly)}
        for port, type_ in inputs.items()
    }


def _dim(name: str, conditions: list[Condition]) -> Any:
    from torch.export import Dim

    size = symbol(name)
    divisor = lcm(*(c.right for c in conditions if c.op == "%" and c.left == size and isinstance(c.right, int)))
    low, high = _bounds(size, conditions)
    if divisor == 1:
        return Dim(name, min=max(low, 1), max=high)
    return divisor * Dim(
        f"{name}_{divisor}", min=max(-(-low // divisor), 1), max=high // divisor if high is not None else None
    )


def _bounds(size: Size, conditions: list[Condition]) -> tuple[int, int | None]:
    """The least and greatest value that simple conditions leave."""
    low, high = 1, None
    for condition in conditions:
        slack = 1 if condition.op == "<" else 0
        if condition.op in ("<", "<=") and condition.right == size and isinstance(condition.left, int):
            low = max(low, condition.left + slack)
        if condition.op in ("<", "<=") and condition.left == size and isinstance(condition.right, int):
            high = min(high or condition.right, condition.right - slack)
    return low, high


def _size(size: Size, dims: Mapping[str, Any]) -> Any:
    """The `Dim` of an axis: of a free size, or whatever torch finds for sizes that follow from others."""
    from torch.export import Dim

    names = symbols(size)
    return dims[next(iter(names))] if len(names) == 1 and size == symbol(next(iter(names))) else Dim.AUTO
