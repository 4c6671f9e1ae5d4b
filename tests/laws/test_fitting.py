"""Laws of padding until windows fit."""

import pytest

from archlang.primitive import AxisMap, OpError, Primitive
from archlang.primitives.domain import Full, Windows
from archlang.primitives.fitting import Crop, PadToFit
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law, single


def tensor(**sizes: object) -> TensorType:
    return TensorType(tuple(axis(name, size) for name, size in sizes.items()))


def test_pad_to_fit():
    check_law(PadToFit(over=Windows(size=3)), tensor(b=2, h=5, w=6, c=2))
    check_law(PadToFit(over=Windows(size=3)), tensor(b=2, c=2, h=2, w=4, d=7))
    check_law(PadToFit(over=Windows(size=AxisMap((("w", 4),)))), tensor(h=5, w=6, c=2))
    check_law(PadToFit(over=Windows(size=2)), tensor(b=symbol("b"), n=2 * symbol("n"), c=2), sizes={"n": 2})


def test_crop():
    check_law(Crop(), tensor(b=2, h=6, w=6, c=2), tensor(b=2, h=5, w=6, c=4))
    check_law(Crop(), tensor(n=symbol("n"), c=2), tensor(n=symbol("n")), sizes={"n": 3})


@pytest.mark.parametrize(
    ("op", "types", "title"),
    [
        (PadToFit(over=Full()), [tensor(n=4, c=2)], "a partition"),
        (PadToFit(over=Windows(size=0)), [tensor(n=4, c=2)], "at least 1"),
        (PadToFit(over=Windows(size=3)), [tensor(c=2)], "space"),
        (Crop(), [tensor(n=4, c=2), tensor(c=2)], "no axis `n`"),
        (Crop(), [tensor(n=4, c=2), tensor(n=5)], "has 4 in `x`, and `like` has 5"),
    ],
)
def test_refusals(op: Primitive, types: list[TensorType], title: str):
    with pytest.raises(OpError, match=".") as caught:
        single(op, types)
    assert title in str(caught.value)
