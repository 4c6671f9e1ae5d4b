"""Laws of maps in the order of their cells: any partition, there and back, and from one to another."""

import pytest

from archlang.primitive import AxisMap
from archlang.primitives.cell_order import CellBorder, CellOrder, Order
from archlang.primitives.domain import Axial, Cells, Grid, Stripes, Windows
from archlang.shapes import Axis, TensorType, axis
from archlang.testing.laws import check_law

SPACE = (axis("h", 4), axis("w", 6))
CELLS = [
    Windows(size=2),
    Windows(size=2, shift=1),
    Windows(size=AxisMap((("h", 4), ("w", 3))), shift=AxisMap((("w", 2),))),
    Windows(size=AxisMap((("h", 2), ("w", 3))), dilation=2),
    Grid(size=2),
    Stripes(sizes=AxisMap((("h", 1),))),
    Axial(on=("h",)),
]


def tensor(order: Order | None) -> TensorType:
    axes = order.axes if order else SPACE
    return TensorType((axis("b", 2), axis("c", 3), *axes, axis("heads", 2)))


@pytest.mark.parametrize("cells", CELLS, ids=str)
def test_there_and_back(cells: Cells) -> None:
    order = Order(cells, SPACE)
    check_law(CellOrder(after=order), tensor(None))
    check_law(CellOrder(before=order), tensor(order))
    check_law(CellBorder(order=order))


@pytest.mark.parametrize("cells", CELLS[:5], ids=str)
def test_from_one_to_another(cells: Cells) -> None:
    check_law(
        CellOrder(before=Order(Grid(size=2), SPACE), after=Order(cells, SPACE)), tensor(Order(Grid(size=2), SPACE))
    )


def test_other_ranks() -> None:
    for sizes in ((6,), (4, 2, 4)):
        space = tuple(Axis(name, size, "space") for name, size in zip("xyz", sizes, strict=False))
        x = TensorType((*space, axis("c", 2)))
        for cells in (Windows(size=2), Windows(size=2, shift=1), Grid(size=2)):
            check_law(CellOrder(after=Order(cells, space)), x)


def test_what_lies_in_order_is_not_moved() -> None:
    assert CellOrder(after=Order(Stripes(sizes=AxisMap((("h", 2),))), SPACE)).is_view
    assert not CellOrder(after=Order(Axial(on=("h",)), SPACE)).is_view
