"""Conditions on free sizes as bounds for `torch.export`."""

from collections.abc import Iterable, Iterator, Mapping
from math import lcm
from typing import Any

from archlang.facts import Condition, inequality
from archlang.ir import Graph, Node, Scan
from archlang.sizes import Poly, Size, symbol, symbols


def dynamic_shapes(graph: Graph, conditions: Iterable[Condition]) -> dict[str, dict[int, Any]]:
    """For each input its free axes by position, as `torch.export.Dim`: `32 | h` becomes `32 * Dim("h_32")`, `h >= 7` a
    lower bound. Torch takes sizes of 1 for constants, so bounds keep all sizes inside above 1. It unrolls the loop of a
    scan, so a size that one runs over is `Dim.STATIC`: that of the inputs it is exported with.
    """
    found = [*conditions, *(Condition("<=", 2, size) for size in _inner(graph))]
    inputs = {port: value.type for port, value in graph.inputs.items()}
    free = dict.fromkeys(name for type_ in inputs.values() for axis in type_ for name in sorted(symbols(axis.size)))
    fixed = {name for size in _scanned(graph) for name in symbols(size)}
    dims = {name: _static() if name in fixed else _dim(name, found) for name in free}
    return {
        port: {i: _size(axis.size, dims) for i, axis in enumerate(type_) if isinstance(axis.size, Poly)}
        for port, type_ in inputs.items()
    }


def _inner(graph: Graph) -> Iterator[Size]:
    """The sizes of all values that one free size decides, but those of the inputs."""
    known = {axis.size for value in graph.inputs.values() for axis in value.type}
    for size in dict.fromkeys(axis.size for node in _nodes(graph) for type_ in node.types for axis in type_):
        if size not in known and len(symbols(size)) == 1:
            known.add(size)
            yield size


def _scanned(graph: Graph) -> Iterator[Size]:
    """The lengths of all loops over positions."""
    yield from (node.op.axis.size for node in _nodes(graph) if isinstance(node.op, Scan))


def _nodes(graph: Graph) -> Iterator[Node]:
    """All operations, each distinct block once."""
    todo, seen = [graph], {graph.digest}
    while todo:
        here = todo.pop()
        yield from (node for _, node in here.deep())
        todo += [inner for inner in here.calls if inner.digest not in seen]
        seen |= {inner.digest for inner in here.calls}


def _static() -> Any:
    from torch.export import Dim

    return Dim.STATIC


def _dim(name: str, conditions: list[Condition]) -> Any:
    from torch.export import Dim

    size = symbol(name)
    divisor = lcm(*(c.right for c in conditions if c.op == "%" and c.left == size and isinstance(c.right, int)))
    low, high = _bounds(size, conditions)
    if divisor == 1:
        return Dim(name, min=max(low, 1), max=high)
    most = high // divisor if high is not None else None
    return divisor * Dim(f"{name}_{divisor}", min=max(-(-low // divisor), 2), max=most)


def _bounds(size: Size, conditions: list[Condition]) -> tuple[int, int | None]:
    """The least and greatest value that simple conditions leave."""
    low, high = 1, None
    for condition in conditions:
        condition = (
            condition if condition.op not in ("<", "<=") else inequality(condition.op, condition.left, condition.right)
        )
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
