"""Laws of tokens that move: each group of channels by its own distance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import OpError
from archlang.primitives.shift import Shift
from archlang.shapes import TensorType
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor, tensor_types

FREE = {"h": 4, "w": 3, "t": 4, "b": 2, "heads": 2}


@settings(max_examples=25)
@given(
    tensor_types(must=("c", "w")),
    st.sampled_from([(0,), (-1, 0, 1), (-2, -1, 0, 1, 2), (5, -7)]),
    st.sampled_from(["zeros", "circular"]),
)
def test_over_space(x: TensorType, by: tuple[int, ...], mode: str) -> None:
    check_law(Shift(by=by, on="w", mode=mode), x.resized(c=9), sizes=FREE)


@settings(max_examples=15)
@given(tensor_types(must=("c", "t")), st.sampled_from([(1, 0), (0, 1, 2), (3,), (0, 9)]))
def test_over_time(x: TensorType, by: tuple[int, ...]) -> None:
    check_law(Shift(by=by, on="t"), x.resized(c=5), sizes=FREE)


def test_groups_are_those_of_chunk() -> None:
    x = torch.randn(2, 9, 17)
    module = check_law(Shift(by=(-2, -1, 0, 1, 2), on="w"), tensor(b=2, w=9, c=17))
    for step, before, after in zip((-2, -1, 0, 1, 2), x.chunk(5, -1), module(x).chunk(5, -1), strict=True):
        kept = slice(max(step, 0), 9 + min(step, 0)), slice(max(-step, 0), 9 - max(step, 0))
        assert torch.equal(after[:, kept[0]], before[:, kept[1]])
        assert after[:, : max(step, 0)].count_nonzero() == 0


@pytest.mark.parametrize(
    ("op", "x", "code"),
    [
        (Shift(by=(1, -1), on="t"), tensor(b="b", t="t", c=4), "A208"),
        (Shift(by=(1,), on="t", mode="circular"), tensor(b="b", t="t", c=4), "A208"),
        (Shift(by=(1, 0, 1, 0, 1), on="w"), tensor(b="b", w=3, c=8), "A204"),
        (Shift(by=(1,), on="c"), tensor(b="b", w=3, c=4), "A206"),
        (Shift(by=(1,), on="h"), tensor(b="b", w=3, c=4), "A205"),
        (Shift(by=(1,), on="w"), tensor("int", b="b", w=3, c=4), "A214"),
    ],
    ids=str,
)
def test_refused(op: Shift, x: TensorType, code: str) -> None:
    with pytest.raises(OpError) as caught:
        infer(op, Facts(), (x,))
    assert caught.value.code == code
