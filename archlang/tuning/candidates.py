"""The implementations of an operation, and where each is right. The first is that of every device."""

from collections.abc import Mapping, Sequence
from typing import Any

from archlang.primitive import Primitive
from archlang.primitives.attention import Attend
from archlang.primitives.conv import Conv, Depthwise
from archlang.primitives.linear import Linear
from archlang.primitives.packed import PackedConv, PackedLinear
from archlang.primitives.recurrence import LinearRecurrence
from archlang.primitives.recurrence_code import form, is_stepwise
from archlang.primitives.sliding import windows

PLAIN = "plain"
CHUNKS = (16, 64, 128)


def candidates(op: Primitive, types: Sequence[Any], inference: bool) -> Mapping[str, Primitive]:
    """By name; what is there for inference only has no gradients."""
    made: dict[str, Primitive] = {PLAIN: op}
    if isinstance(op, LinearRecurrence):
        chunked = op.chunk is None and not is_stepwise(form(op, *types))
        return made | ({f"chunk={size}": op.model_copy(update={"chunk": size}) for size in CHUNKS} if chunked else {})
    if not inference or types[0].dtype != "float":
        return made
    if isinstance(op, Attend):
        ways = op.cores(*types)
        first = (op.core or ways[0],) if ways else ()
        return {way: op.model_copy(update={"core": way}) for way in dict.fromkeys((*first, *ways))} or made
    if isinstance(op, Linear):
        return made | {"packed": PackedLinear(op=op)}
    if isinstance(op, Conv | Depthwise) and _is_packable(op, types):
        return made | {"packed": PackedConv(op=op.conv(types[0]) if isinstance(op, Depthwise) else op)}
    return made


def _is_packable(op: Conv | Depthwise, types: Sequence[Any]) -> bool:
    """On maps and volumes, edges filled with zeros, and one kernel for all samples; one of a depthwise layer's own."""
    x, weight = (*types, None)[:2]
    found = windows(op, x)
    names = {"units", "c", *(window.name for window in found)}
    shared = weight is None or (isinstance(op, Conv) and set(weight.names) <= names)
    return len(found) in (2, 3) and op.mode == "zeros" and shared
