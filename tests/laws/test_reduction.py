"""Reductions and cumulative forms: emitted equals meant, by name and by role; time that is seen whole is lost."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import OpError, Primitive
from archlang.primitives import CONSTRUCTS
from archlang.shapes import TensorType
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor, tensor_types

MANY = ["sum", "mean", "max", "min", "prod", "var", "logsumexp", "norm"]
AXES = st.sampled_from([("c",), ("h",), ("w", "c"), ("h", "w", "c"), ("space",), ("channel", "h")])


def op(name: str, **fields: object) -> Primitive:
    made = CONSTRUCTS[name](**fields)
    assert isinstance(made, Primitive)
    return made


@settings(max_examples=60)
@given(st.sampled_from(MANY), tensor_types(must=("h", "w", "c"), most=5), AXES)
def test_over_names_and_roles(name: str, x: TensorType, on: tuple[str, ...]) -> None:
    check_law(op(name, on=on), x)


@settings(max_examples=10)
@given(tensor_types(must=("c",)))
def test_std(x: TensorType) -> None:
    check_law(op("std", on=("c",)), x.resized(c=3))


@pytest.mark.parametrize("p", [1, 2, 3, 0.5, float("inf")])
def test_norms(p: float) -> None:
    check_law(op("norm", p=p, on=("c",)), tensor(b=2, c=5))


def test_entropy_of_certain_and_uncertain() -> None:
    x = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    module = check_law(op("entropy", on=("c",)), (tensor(b="b", c=2), x), gradients=False)
    assert module(x).tolist() == pytest.approx([0, 0.6931471805599453])
    check_law(op("entropy", on=("c",)), (tensor(b="b", c=4), torch.rand(3, 4) + 0.1))


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_of_extremes(name: str) -> None:
    check_law(op(name, on=("h",)), tensor(b=3, h=5, c=2))
    check_law(op(name, on=("c",)), (tensor("int", b="b", c=4), torch.tensor([[1, 3, 3, 0], [0, 0, 3, 3]])))


@pytest.mark.parametrize("name", ["all", "any"])
@pytest.mark.parametrize("on", [("c",), ("b", "c")])
def test_truth(name: str, on: tuple[str, ...]) -> None:
    check_law(op(name, on=on), tensor("bool", b="b", h=4, c=2))


@pytest.mark.parametrize(
    ("source", "made"), [("bool", "int"), ("int32", "int"), ("float", "float"), ("bfloat16", "bfloat16")]
)
def test_dtype_of_a_sum(source: str, made: str) -> None:
    assert op("sum", on=("c",)).infer(Facts(), tensor(source, c=2)).dtype == made
    if "int" in source or source == "bool":
        check_law(op("sum", on=("c",)), tensor(source, b=2, c=3))


@settings(max_examples=20)
@given(st.sampled_from(["cumsum", "cumprod"]), tensor_types(must=("t",)))
def test_cumulative_is_causal(name: str, x: TensorType) -> None:
    operation = op(name, on=("t",))
    check_law(operation, x.resized(t=4))
    assert operation.looks_ahead(x) == frozenset()


@pytest.mark.parametrize("name", ["mean", "max", "argmax"])
def test_time_is_lost(name: str) -> None:
    (made,) = infer(op(name, on=("t",)), Facts(), [tensor(b="b", t="t", c=2)])
    assert made.lost == {"t"}
    assert made.names == ("b", "c")
    with pytest.raises(OpError, match="whole meets one that still has it"):
        infer(op("add"), Facts(), [made, tensor(t="t")])


@pytest.mark.parametrize(
    ("name", "on", "x", "code"),
    [
        ("mean", ("n",), tensor(c=2), "A205"),
        ("mean", ("c",), tensor("int", c=2), "A214"),
        ("all", ("c",), tensor(c=2), "A214"),
        ("argmax", ("space",), tensor(h=2, w=2), "A206"),
        ("cumsum", ("c",), tensor("bool", c=2), "A214"),
        ("max", ("c",), tensor("bool", c=2), "A214"),
    ],
)
def test_refusals(name: str, on: tuple[str, ...], x: TensorType, code: str) -> None:
    with pytest.raises(OpError) as failure:
        op(name, on=on).infer(Facts(), x)
    assert failure.value.code == code
