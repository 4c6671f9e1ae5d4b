"""Laws of linear maps: which axes they contract, and in which order weights hold these."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archlang.emit.torch import emit
from archlang.primitives.linear import Dot, Linear
from archlang.shapes import Axis, TensorType
from archlang.testing.laws import check_law, single
from archlang.testing.strategies import tensor, tensor_types

FREE = {"h": 4, "w": 3, "t": 4, "b": 2, "heads": 2, "c": 4}
UNITS = (Axis("part", 2, "free"), Axis("c", 3, "channel"))


@settings(max_examples=30)
@given(
    tensor_types(must=("c", "h")), st.sampled_from([("c",), ("h",), ("c", "h"), ("h", "c"), ("space",)]), st.booleans()
)
def test_linear(x: TensorType, on: tuple[str, ...], bias: bool) -> None:
    x = x.resized(c=4, h=3, **{name: FREE[name] for name in ("w",) if name in x})
    units = 5 if len(on) == 1 and on != ("space",) else UNITS
    if "c" in on or units == 5:
        check_law(Linear(units=units, on=on, bias=bias), x, sizes=FREE)


@pytest.mark.parametrize("on", [("h", "c"), ("c", "h")])
def test_the_weight_has_the_axes_in_the_order_written(on: tuple[str, ...]) -> None:
    sizes = {"h": 3, "c": 4}
    module = check_law(Linear(units=UNITS, on=on, bias=False), tensor(b=2, h=3, c=4))
    weight = module.get_parameter("op.weight").reshape(2, 3, *(sizes[name] for name in on))
    x = torch.randn(2, 3, 4)
    letters = "".join(name[0] for name in on)
    torch.testing.assert_close(module(x), torch.einsum(f"bhc,pu{letters}->bpu", x, weight))


@pytest.mark.parametrize("on", [("h", "c"), ("c", "h")])
def test_a_given_weight(on: tuple[str, ...]) -> None:
    check_law(Linear(units=UNITS, on=on), tensor(b=2, h=3, c=4), tensor(c=4, units=6, h=3))
    check_law(Linear(units=UNITS, on=on), tensor(b=2, h=3, c=4), tensor(on=12, units=6))


def test_a_given_offset() -> None:
    check_law(Linear(units=UNITS, on=("c",)), tensor(b=2, c=4), None, tensor(units=6))
    check_law(Linear(units=UNITS, on=("c",)), tensor(b=2, c=4), tensor(c=4, units=6), tensor(units=6))


@settings(max_examples=20)
@given(tensor_types(must=("c",)), tensor_types(must=("c",)))
def test_dot(a: TensorType, b: TensorType) -> None:
    a, b = (x.resized(**{name: FREE[name] for name in x.names}) for x in (a, b))
    check_law(Dot(on=("c",)), a, b)


@pytest.mark.parametrize(
    ("a", "b", "written"),
    [
        (("b", "t", "c"), ("v", "c"), "F.linear("),
        (("b", "t", "c"), ("c", "v"), " @ "),
        (("c",), ("c", "v"), " @ "),
        (("b", "h", "t", "c"), ("b", "h", "s", "c"), ".mT"),
        (("b", "t", "c"), ("b", "c", "s"), " @ "),
        (("b", "t", "c"), ("s", "b", "c"), 'einsum("btc,sbc->bts"'),
        (("t", "c"), ("c", "t"), 'einsum("tc,ct->t"'),
        (("tall", "c"), ("time", "wide", "c"), 'einsum("tc,iwc->tiw"'),
    ],
)
def test_products_of_matrices(a: tuple[str, ...], b: tuple[str, ...], written: str) -> None:
    """A contraction is written as a product of matrices where it is one, and else with letters of its axes."""
    sizes = {name: size for size, name in enumerate(dict.fromkeys((*a, *b)), 2)}
    types = [tensor(**{name: sizes[name] for name in names}) for names in (a, b)]
    check_law(Dot(on=("c",)), *types)
    assert written in emit(single(Dot(on=("c",)), types)[0])
