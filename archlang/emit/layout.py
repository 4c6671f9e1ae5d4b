"""The physical order of axes between modules: each input comes as its first reader with an opinion wants it."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from archlang.ir import Call, Value
from archlang.shapes import TensorType

Orders: TypeAlias = Callable[[Call, str], Sequence[str] | None]
_FAR = 64  # readers looked at before giving up


def first(type_: TensorType) -> tuple[str, ...]:
    """Channels before the axes that a kernel slides over: batch-like axes, `c`, space and time."""
    slid = type_.of_role("space", "time")
    return (*(name for name in type_.names if name != "c" and name not in slid), "c", *slid)


def last(type_: TensorType) -> tuple[str, ...]:
    """Channels last, the other axes as declared."""
    return (*(name for name in type_.names if name != "c"), "c")


def order(value: Value, called: Orders) -> tuple[str, ...]:
    """The order for an input of a graph: by the first reader that has an opinion, through those that have none; else as declared."""
    queue = [value]
    for at in queue:
        for node, argument in at.graph.users(at):
            if isinstance(node.op, Call):
                wish = called(node.op, argument)
                if wish is not None and set(wish) == set(value.type.names):
                    return tuple(wish)
            elif node.op.prefers and "c" in value.type:
                return first(value.type) if node.op.prefers == "first" else last(value.type)
            elif len(queue) < _FAR and len(node.types) == 1 and set(node.types[0].names) == set(value.type.names):
                queue.append(Value(at.graph, node.id, 0, node.types[0]))
    return value.type.names
