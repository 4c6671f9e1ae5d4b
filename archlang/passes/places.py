"""What works on each place of a map alone, so that their order does not matter, and what attends inside cells."""

import re
from functools import cache
from typing import Any, Final, TypeAlias

from archlang.ir import Graph, Node
from archlang.primitives import FAMILIES
from archlang.primitives.attention_code import form, layout
from archlang.primitives.cell_order import CELL, Order, order
from archlang.primitives.domain import Cells
from archlang.primitives.position import Table
from archlang.shapes import TensorType
from archlang.sizes import Size, substitute, symbols

Need: TypeAlias = frozenset[Order | None]  # the orders in which readers want a value; None is that of the map
FREE: Final[Need] = frozenset()  # any will do
MAP: Final[Need] = frozenset({None})
_FAMILIES = ("pointwise", "elementwise", "activation")
_ONE_BY_ONE = frozenset(
    [
        *(name for family in _FAMILIES for name in FAMILIES[family].split()),
        *("linear", "layer_norm", "rms_norm", "l2_norm", "dropout", "drop_path", "stochastic_depth", "layer_scale"),
        *("identity", "rename", "rearrange", "concat", "stack", "split", "slice", "select"),
    ]
)


def as_number(size: Size) -> int:
    """A size for one sample."""
    found = substitute(size, dict.fromkeys(symbols(size), 1))
    assert isinstance(found, int)
    return found


@cache
def sample_bytes(type_: TensorType) -> int:
    """What a value takes of one sample."""
    return as_number(type_.bytes)


def is_fixed(type_: TensorType, names: tuple[str, ...]) -> bool:
    return all(name in type_ and isinstance(type_.size(name), int) for name in names)


def order_of(graph: Graph, node: Node) -> Order | None:
    """The order in which an attention finds its cells side by side; None where it has none of known size, or looks at
    places of the map in other ways too.
    """
    op: Any = node.op
    if op.name != "attend":
        return None
    q, k, v, bias, mask, scale, *others = (*graph.input_types(node), *[None] * 9)[:12]
    parts = layout(op.on, q, k, v)
    domain, names = op.domain(parts), parts.names
    if not isinstance(domain, Cells) or len(parts.queries) != len(parts.keys) or any(CELL in x for x in (q, k, v)):
        return None
    if not all(is_fixed(x, names) for x in (q, k, v)):
        return None
    if {axis.role for axis in parts.keys} != {"space"} or parts.queries != parts.keys or mask or any(others[3:]):
        return None
    if (bias and form(bias.names, parts) in ("pair", "key")) or (scale and set(scale.names) & set(names)):
        return None
    return order(domain, parts.keys)


def is_one_by_one(node: Node) -> bool:
    """Whether it may do the same in any order of the places."""
    return node.op.name in _ONE_BY_ONE


def is_table(node: Node) -> bool:
    """Whether it makes a bias for the places of a cell."""
    return isinstance(node.op, Table)


def table_order(graph: Graph, node: Node) -> Order | None:
    """The order in which the cell that a bias is for is a map of its own."""
    op: Any = node.op
    q, k = graph.input_types(node)
    parts = layout(op.on, q, k)
    return order(op.over, parts.keys) if isinstance(op.over, Cells) and is_fixed(k, parts.names) else None


def touches(type_: TensorType, order: Order) -> bool:
    """Whether it has places of the map."""
    return any(name in type_ for name in order.names)


def fits(type_: TensorType, order: Order) -> bool:
    """Whether it is over all places of the map."""
    return all(axis in type_.axes for axis in order.space) and CELL not in type_


def commutes(graph: Graph, node: Node, order: Order) -> bool:
    """Whether it does the same in any order of the places."""
    given = [value.type for _, value in graph.operands(node)]
    names = {*order.names, CELL}
    if not is_one_by_one(node) or set(re.findall(r"\w+", str(node.op))) & names:
        return False
    if not all(fits(x, order) for x in (*given, *node.types) if touches(x, order)) or not touches(node.types[0], order):
        return False
    of_places = {name for param in graph.params(node).values() for name in param.names}
    return not (names & node.op.mixes(*graph.input_types(node)) or names & of_places)


def cut(graph: Graph, node: Node, moved: bool) -> int:
    """The bytes that are copied to cut q, k and v into cells and to join what is made of them; where the cells are
    moved, all four are moved too.
    """
    whole = sum(sample_bytes(x) for x in (*graph.input_types(node)[:3], node.types[0]))
    return whole * (2 if moved else 1)
