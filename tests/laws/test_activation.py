"""Activations: emitted equals meant, over any axes; what each one is at known points."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from archlang.facts import Facts
from archlang.primitive import OpError, Primitive
from archlang.primitives import CONSTRUCTS
from archlang.shapes import TensorType
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor, tensor_types

PLAIN = [
    "relu",
    "relu6",
    "sigmoid",
    "tanh",
    "silu",
    "swish",
    "gelu",
    "gelu_tanh",
    "quick_gelu",
    "selu",
    "mish",
    "softsign",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "elu",
    "celu",
    "softplus",
]


def op(name: str, **fields: object) -> Primitive:
    made = CONSTRUCTS[name](**fields)
    assert isinstance(made, Primitive)
    return made


@pytest.mark.parametrize("name", PLAIN)
def test_elementwise(name: str) -> None:
    x = torch.cat([torch.linspace(-8, 8, 23), torch.randn(9)]).reshape(4, 8)
    # torch's gradient of hardsigmoid multiplies by 1 / 6 in single precision
    check_law(op(name), (tensor(b="b", c=8), x), gradients=name != "hard_sigmoid")


def test_gradient_of_hard_sigmoid() -> None:
    x = torch.tensor([-4.0, -1.0, 2.0, 4.0], dtype=torch.float32, requires_grad=True)
    check_law(op("hard_sigmoid"), tensor(c=4), gradients=False).float()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([0, 1 / 6, 1 / 6, 0], rel=1e-7)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("leaky_relu", {"slope": 0.3}), ("elu", {"alpha": 0.5}), ("celu", {"alpha": 2.0}), ("softplus", {"beta": 3.0})],
)
def test_hyper_parameters(name: str, fields: dict[str, float]) -> None:
    check_law(op(name, **fields), tensor(b="b", c=5))


def test_softplus_is_straight_far_out() -> None:
    check_law(op("softplus"), (tensor(c=4), torch.tensor([-800.0, 19.9, 20.1, 800.0])))


@settings(max_examples=25)
@given(st.sampled_from(["softmax", "log_softmax"]), tensor_types(must=("h", "c")), st.data())
def test_softmax(name: str, x: TensorType, data: st.DataObject) -> None:
    on = data.draw(st.sampled_from([("c",), ("h",), ("h", "c"), ("channel",), ("space",)]))
    check_law(op(name, on=on), x)


def test_softmax_over_time_looks_ahead() -> None:
    assert op("softmax", on=("t",)).looks_ahead(tensor(t=4, c=3)) == {"t"}


@settings(max_examples=15)
@given(tensor_types(must=("c",)), st.booleans())
def test_prelu(x: TensorType, per_channel: bool) -> None:
    check_law(op("prelu", per_channel=per_channel), x.resized(c=3))


@settings(max_examples=15)
@given(tensor_types(must=("h",), names=("b", "c", "t")), st.integers(1, 3))
def test_glu(x: TensorType, half: int) -> None:
    check_law(op("glu", on=("h",)), x.resized(h=2 * half))


def test_refusals() -> None:
    with pytest.raises(OpError, match="odd"):
        op("glu").infer(Facts(), tensor(c=5))
    with pytest.raises(OpError, match="no axis `n`"):
        op("softmax", on=("n",)).infer(Facts(), tensor(c=5))
    with pytest.raises(OpError, match="no axis of role space"):
        op("softmax", on=("space",)).infer(Facts(), tensor(c=5))
    with pytest.raises(OpError, match="one axis"):
        op("glu", on=("space",)).infer(Facts(), tensor(h=4, w=4))
    with pytest.raises(OpError, match="not int"):
        op("softmax", on=("c",)).infer(Facts(), tensor("int", c=5))


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("gelu", 1.0, 0.8413447460685429),
        ("silu", 1.0, 1 / (1 + math.exp(-1))),
        ("selu", -50.0, -1.7580993408473766),
        ("mish", 0.0, 0.0),
        ("hard_swish", 1.0, 2 / 3),
        ("quick_gelu", 1.0, 1 / (1 + math.exp(-1.702))),
        ("relu6", 9.0, 6.0),
    ],
)
def test_known_values(name: str, x: float, y: float) -> None:
    module = check_law(op(name), (tensor(c=1), torch.tensor([x])))
    assert module(torch.tensor([x])).item() == pytest.approx(y, abs=1e-12)
