"""Laws of pools: however padded, on any axes, they are the slow maximum or mean."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import AxisMap, OpError, Primitive
from archlang.primitives.pool import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool
from archlang.shapes import TensorType
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor, tensor_types

FREE = {"h": 6, "w": 5, "b": 2, "c": 3, "heads": 2, "d": 3}
PADDINGS = ["same", "same", "tf_same", "valid", "causal", 0, 1, 2]


@st.composite
def maps(draw: st.DrawFn) -> TensorType:
    axes = draw(st.sampled_from([("h",), ("h", "w"), ("h", "w"), ("d", "h", "w")]))
    x = draw(tensor_types(must=axes, names=(*axes, "b", "c", "heads"), most=len(axes) + 3))
    return x.resized(**{name: FREE[name] for name in axes if isinstance(x.size(name), int)})


def fits(op: Primitive, x: TensorType) -> bool:
    try:
        infer(op, Facts(), (x,))
    except OpError:
        return False
    return True


@settings(max_examples=50)
@given(maps(), st.integers(1, 4), st.sampled_from([None, 1, 2, 3]), st.sampled_from(PADDINGS), st.integers(1, 2))
def test_max_pool(x: TensorType, kernel: int, stride: int | None, padding: object, dilation: int) -> None:
    # a window that lies in the padding as a whole has no maximum
    assume(not isinstance(padding, int) or padding < kernel)
    assume(padding != "causal" or dilation == 1)
    op = MaxPool(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    assume(fits(op, x))
    check_law(op, x, sizes=FREE)


@settings(max_examples=50)
@given(maps(), st.integers(1, 4), st.sampled_from([None, 1, 2, 3]), st.sampled_from(PADDINGS), st.booleans())
def test_avg_pool(x: TensorType, kernel: int, stride: int | None, padding: object, include: bool) -> None:
    assume(not isinstance(padding, int) or padding < kernel)
    op = AvgPool(kernel=kernel, stride=stride, padding=padding, count_include_pad=include)
    assume(fits(op, x))
    check_law(op, x, sizes=FREE)


@pytest.mark.parametrize("pool", [MaxPool, AvgPool])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 3), (4, 2), (2, None)])
def test_time_is_causal(pool: type[Primitive], kernel: int, stride: int | None) -> None:
    op = pool(kernel=kernel, stride=stride)
    x = tensor(b="b", t=12, c=3)
    assert not op.looks_ahead(x)
    assert op.infer(Facts(), x).size("t") == 12 // (stride or kernel)
    check_law(op, x)


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "expected"), [(3, 2, 112, 56), (3, 1, 7, 7), (2, None, 7, 3), (4, 4, 32, 8)]
)
def test_sizes(kernel: int, stride: int | None, size: int, expected: int) -> None:
    x = tensor(b="b", h=size, w=size, c=3)
    for pool in (MaxPool, AvgPool):
        assert pool(kernel=kernel, stride=stride).infer(Facts(), x).size("h") == expected


@settings(max_examples=30)
@given(maps(), st.sampled_from([AdaptiveAvgPool, AdaptiveMaxPool]), st.integers(1, 7), st.booleans())
def test_adaptive(x: TensorType, pool: type[Primitive], size: int, named: bool) -> None:
    check_law(pool(size=AxisMap((("h", size),)) if named else size), x, sizes=FREE)


@pytest.mark.parametrize(
    ("op", "x", "code"),
    [
        (MaxPool(kernel=2), tensor("int", h=4), "A214"),
        (MaxPool(kernel=2), tensor(b=2, c=4), "A205"),
        (AvgPool(kernel=9, padding=0), tensor(h=4), "A204"),
        (AvgPool(kernel=3, padding=1), tensor(t=4), "A208"),
        (AvgPool(kernel=3), tensor(t=4), "A204"),
        (AdaptiveAvgPool(size=2, on=("time",)), tensor(t=4), "A208"),
        (AdaptiveAvgPool(size=0), tensor(h=4), "A319"),
        (AdaptiveAvgPool(size=AxisMap((("w", 2),))), tensor(h=4), "A205"),
    ],
    ids=str,
)
def test_refused(op: Primitive, x: TensorType, code: str) -> None:
    with pytest.raises(OpError) as caught:
        infer(op, Facts(), (x,))
    assert caught.value.code == code
