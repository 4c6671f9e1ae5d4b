"""What linear recurrences hold in memory, in tensors of the size of the keys, of the values, and of the products of the
positions of a chunk, and states between chunks: counted in `archlang/helpers`, and held to torch by the law of memory.
"""

from fractions import Fraction
from math import log2
from typing import Any

from archlang.memory import Memory
from archlang.primitives.recurrence_code import Form, chunk_of, length_of
from archlang.shapes import TensorType
from archlang.sizes import Rational, Size, ceil, divide, minimum, product

# By (delta rule, decay): tensors like keys, values, products that the backward pass reads
KEPT = {
    (False, ""): (2, 1, 1),
    (False, "head"): (4, 1, 4),
    (False, "key"): (5, 1, 1),
    (True, ""): (3, 2, 5),
    (True, "head"): (6, 2, 11),
    (True, "key"): (8, 2, 5),
}
# and those that are there at once without gradients: of the whole length, of a segment, products
WORK: dict[tuple[bool, str], tuple[int, int, Rational]] = {
    (False, ""): (4, 0, Fraction(3, 2)),
    (False, "head"): (4, 2, Fraction(3, 2)),
    (False, "key"): (5, 6, Fraction(9, 5)),
    (True, ""): (5, 1, 4),
    (True, "head"): (5, 5, 4),
    (True, "key"): (6, 7, Fraction(18, 5)),
}
SEGMENT = 256  # positions at work at once


def chunked_memory(op: Any, parts: Form, k: TensorType, v: TensorType, decay: TensorType | None) -> Memory:
    """Chunks by matrix products; the decays of key channels are multiplied out in steps of two, and decays that are the
    same at all positions are small.
    """
    chunk = chunk_of(op, parts)
    length = ceil(divide(length_of(parts), chunk)) * chunk
    segment = minimum(length, SEGMENT)
    keys, values, products, states = _tensors(parts, length, chunk, k, v)
    some, _, inner, between = _tensors(parts, segment, chunk, k, v)
    form = parts.beta, parts.decay
    by_key, by_value, square = KEPT[form]
    if parts.decay == "key":
        by_key += 2 * int(log2(chunk)) * (2 if parts.beta else 1)
    if decay is not None and parts.on.name not in decay and not parts.beta:
        square = 1
    kept = keys * by_key + values * by_value + products * square + states
    whole, part, square_part = WORK[form]
    work = keys * whole + some * part + inner * square_part + between
    return Memory({}, False, kept, work, values + keys * 2)


def _tensors(parts: Form, length: Size, chunk: int, k: TensorType, v: TensorType) -> tuple[Size, Size, Size, Size]:
    """Bytes of keys, of values, of the products inside of chunks, and of a state for each."""
    keys, values, products = (_bytes(parts, length, size, k) for size in (k.size("c"), v.size("c"), chunk))
    return keys, values, products, divide(keys * v.size("c"), chunk)


def stepwise_memory(parts: Form, k: TensorType, v: TensorType) -> Memory:
    """Every position keeps its state, as often as it is multiplied."""
    states = _bytes(parts, length_of(parts), k.size("c") * v.size("c"), k)
    return Memory(kept=states * (5 if parts.beta else 3), work=states, back=states)


def _bytes(parts: Form, length: Size, size: Size, x: TensorType) -> Size:
    """Of a tensor [*lead, length, size], in float32 at least."""
    one = x.without(*x.names)
    width = one.bytes if one.dtype in ("float32", "float64") else one.cast("float32").bytes
    return product(axis.size for axis in parts.lead) * length * size * width
