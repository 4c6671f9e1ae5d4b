"""Numbers as tensors."""

from fractions import Fraction

import pytest
import torch
from pydantic import ValidationError

from archlang.facts import Facts
from archlang.primitive import OpError
from archlang.primitives.values import Values
from archlang.testing.laws import check_law


def test_values() -> None:
    module = check_law(Values(numbers=[1, Fraction(1, 3), -2.5], on=("taps",)))
    assert torch.equal(module(), torch.tensor([1, 1 / 3, -2.5]))
    module = check_law(Values(numbers=[[1, 2, 3], [4, 5, 6]], on=("h", "w")))
    assert torch.equal(module(), torch.arange(1.0, 7).view(2, 3))


@pytest.mark.parametrize(
    ("numbers", "on", "says"),
    [
        ([1, 2], ("h", "w"), "nested 1 deep"),
        ([[1, 2], [3]], ("h", "w"), "equal lengths"),
        ([[1], 2], ("h", "w"), "equal lengths"),
        ([], ("h",), "equal lengths"),
        ([[1, 2]], ("h", "h"), "as many axes"),
    ],
)
def test_refused(numbers: list[object], on: tuple[str, ...], says: str) -> None:
    with pytest.raises(OpError, match=says):
        Values(numbers=numbers, on=on).infer(Facts())


def test_takes_numbers() -> None:
    with pytest.raises(ValidationError, match="holds true"):
        Values(numbers=[1, True], on=("h",))
