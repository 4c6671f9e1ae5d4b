"""Gated sums: laws, and what they refuse."""

import pytest

from archlang.primitive import OpError
from archlang.primitives.gated_sum import GatedSum
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law

B, T, N, C, H = (axis(name, symbol(name)) for name in "btnch")
SIZES = {"b": 2, "t": 5, "n": 4, "c": 3, "h": 2}


def type_(*axes: object, dtype: str = "float") -> TensorType:
    return TensorType(tuple(axes), dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        (GatedSum(), (type_(B, T, C), type_(B, T, C))),
        (GatedSum(), (type_(B, T, C), type_(C))),
        (GatedSum(), (type_(B, T, H, C), type_(B, T, H), type_(B, H, C))),
        (GatedSum(), (type_(B, T), type_(B, T, C), type_(C))),
        (GatedSum(factor=0.5), (type_(B, T, C),)),
        (GatedSum(factor=0.5), (type_(B, T, C), None, type_(B, C))),
        (GatedSum(reverse=True), (type_(B, N, C), type_(B, N, C))),
        (GatedSum(on="h", reverse=True), (type_(B, N, H, C), type_(H))),
    ],
)
def test_law(op: GatedSum, inputs: tuple[TensorType, ...]) -> None:
    check_law(op, *inputs, sizes=SIZES)


@pytest.mark.parametrize(
    ("op", "inputs", "said"),
    [
        (GatedSum(), (type_(B, C), type_(C)), "no axes to run along"),
        (GatedSum(), (type_(B, T, C),), "either `decay` or a number"),
        (GatedSum(), (type_(B, T, C), type_(C, dtype="int")), "takes float tensors"),
        (GatedSum(), (type_(B, T, C), type_(C), type_(B, T, C)), "before all positions"),
        (GatedSum(), (type_(B, T), type_(T), type_(B, C)), "has axes that"),
    ],
)
def test_refuses(op: GatedSum, inputs: tuple[TensorType, ...], said: str) -> None:
    from archlang.facts import Facts

    with pytest.raises(OpError, match=said):
        op.infer(Facts(), *inputs)
