"""Cases: an operation with the class of its sizes, alike in which implementation is best."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log2, prod
from typing import Any

from archlang.ir import Call, Graph, Node, Scan
from archlang.primitive import Primitive
from archlang.primitives.attention import Attend
from archlang.primitives.attention_code import layout
from archlang.primitives.conv import Conv, Depthwise
from archlang.primitives.domain import extents
from archlang.primitives.linear import Linear, contracted
from archlang.primitives.recurrence import LinearRecurrence
from archlang.primitives.recurrence_code import form, length_of
from archlang.primitives.sliding import windows
from archlang.shapes import TensorType
from archlang.sizes import Size, substitute, symbols

DTYPES = ("float32", "bfloat16", "float16")
LENGTH = 1024  # what a free length is taken for


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """`linear rows=256 on=384 units=1536 float32`; sizes are rounded to powers of two, and 0 is 0. With a dot,
    `delta_rule.forward c=64 d=64 bfloat16`, it is a part of a kernel.
    """

    op: str
    sizes: tuple[tuple[str, int], ...]
    dtype: str = DTYPES[0]

    def __str__(self) -> str:
        return " ".join([self.op, *(f"{name}={size}" for name, size in self.sizes), self.dtype])

    @property
    def kernel(self) -> str:
        """The kernel that this is a part of, if so."""
        return self.op.rpartition(".")[0]

    def distance(self, other: "Case") -> float:
        """How far apart the sizes are, in doublings; infinite where the operations differ."""
        mine, theirs = dict(self.sizes), dict(other.sizes)
        if (self.op, self.dtype) != (other.op, other.dtype) or mine.keys() != theirs.keys():
            return float("inf")
        return sum(abs(log2(max(1, mine[name])) - log2(max(1, theirs[name]))) for name in mine)


def parse(text: str) -> Case:
    """A case from its text. Raises `ValueError` where it is none."""
    op, *sizes, dtype = text.split()
    if dtype not in DTYPES:
        raise ValueError(f"`{dtype}` is none of {', '.join(DTYPES)}")
    pairs = (part.partition("=")[::2] for part in sizes)
    return Case(op, tuple((name, int(size)) for name, size in pairs), dtype)


def case(op: Primitive, types: Sequence[Any], batch: int = 1) -> Case | None:
    """The case of an operation on inputs of these types, free sizes being `batch`; None for one with one algorithm."""
    if isinstance(op, Linear):
        on = contracted(op.on, types[0])
        width, units = (
            _number([types[0].size(n) for n in on], batch),
            _number([a.size for a in op.made(types[0])], batch),
        )
        return _case("linear", rows=_number([types[0].numel], batch) // max(1, width), on=width, units=units)
    if isinstance(op, Conv | Depthwise):
        return _convolution(op.conv(types[0]) if isinstance(op, Depthwise) else op, types[0], batch)
    if isinstance(op, LinearRecurrence):
        return _recurrence(op, types, batch)
    return _attention(op, types, batch) if isinstance(op, Attend) else None


def _convolution(op: Conv, x: TensorType, batch: int) -> Case:
    found = windows(op, x)
    positions = _number([x.numel], batch) // _number([x.size("c")], batch)
    kernel, stride = _number([w.kernel for w in found], batch), _number([w.stride for w in found], batch)
    sizes = {"positions": positions, "c": _number([x.size("c")], batch), "units": _number([op.units], batch)}
    return _case(f"conv{len(found)}d", **sizes, kernel=kernel, stride=stride, groups=_number([op.groups], batch))


def _recurrence(op: LinearRecurrence, types: Sequence[Any], batch: int) -> Case:
    (_, k, v), parts = types[:3], form(op, *types)
    length, keys = _number([length_of(parts)], batch), _number([k.size("c")], batch)
    heads = _number([axis.size for axis in parts.lead], batch)
    name = "_".join(filter(None, ("recurrence", parts.decay, "delta" if parts.beta else "")))
    return _case(name, length=length, heads=heads, keys=keys, values=_number([v.size("c")], batch))


def _attention(op: Attend, types: Sequence[Any], batch: int) -> Case:
    """By how many pieces there are of so many queries and keys."""
    parts, biased = layout(op.on, *types[:3]), len(types) > 3 and types[3] is not None
    keys = extents(op.domain(parts), parts.keys)
    queries = [axis.size for axis in parts.queries]
    rows = keys if len(queries) == len(keys) else queries
    pieces = _number([a.size for a in (*parts.lead, *parts.extra, *parts.queries)], batch) // _number(rows, batch)
    sizes = {"pieces": pieces, "queries": _number(rows, batch), "keys": _number(keys, batch)}
    return _case("attend_biased" if biased else "attend", **sizes, c=_number([types[0].size("c")], batch))


def free(name: str, batch: int) -> int:
    """What a free size is taken for: `b` is the batch, and others are lengths."""
    return batch if name == "b" else LENGTH


def _number(sizes: Iterable[Size], batch: int) -> int:
    """The product of sizes."""
    values = [substitute(size, {name: free(name, batch) for name in symbols(size)}) for size in sizes]
    return prod(int(str(value)) for value in values)


def _case(op: str, **sizes: int) -> Case:
    return Case(op, tuple((name, 2 ** round(log2(size)) if size else 0) for name, size in sizes.items()))


def every(graph: Graph) -> Iterator[tuple[Graph, Node]]:
    """All operations of a network and of its blocks."""
    for node in graph:
        if isinstance(node.op, Call | Scan):
            yield from every(node.op.graph)
        else:
            yield graph, node
