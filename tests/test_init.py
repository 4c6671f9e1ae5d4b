"""Initialisations: the emitted expression makes the distribution that its docstring states, through arithmetic too."""

import math
from collections.abc import Iterable

import pytest
import torch
from torch import nn

import archlang
from archlang.emit import load
from archlang.emit.torch import class_name, emit
from archlang.ir import Graph, Parameter
from archlang.primitive import OpError
from archlang.primitives import CONSTRUCTS
from archlang.primitives.init import Init, Positions, apply, as_init, combine
from archlang.primitives.linear import Linear
from archlang.testing.strategies import tensor


def init(name: str, **fields: object) -> Init:
    made = CONSTRUCTS[name](**fields)
    assert isinstance(made, Init)
    return made


def values(start: Init, shape: Iterable[int], names: tuple[str, ...] = ()) -> torch.Tensor:
    torch.manual_seed(0)
    made: torch.Tensor = eval(start.code(str(tuple(shape)), names), {"torch": torch, "nn": nn})
    assert tuple(made.shape) == tuple(shape)
    return made


WIDE = (200, 300)
FAN_IN, FAN_OUT = 300, 200
MOMENTS = [
    ("zeros", {}, 0, 0),
    ("ones", {}, 1, 0),
    ("constant", {"value": 0.3}, 0.3, 0),
    ("normal", {"std": 0.02}, 0, 0.02),
    ("normal", {"std": 2, "mean": 5}, 5, 2),
    ("normal", {}, 0, 1),
    ("trunc_normal", {"std": 0.02}, 0, 0.02),
    ("uniform", {"low": 1, "high": 4}, 2.5, 3 / 12**0.5),
    ("xavier_uniform", {}, 0, (2 / 500) ** 0.5),
    ("xavier_normal", {"gain": 2}, 0, 2 * (2 / 500) ** 0.5),
    ("kaiming", {}, 0, (1 / 3 / FAN_IN) ** 0.5),
    ("kaiming_uniform", {}, 0, (2 / FAN_IN) ** 0.5),
    ("kaiming_normal", {"fan": "out"}, 0, (2 / FAN_OUT) ** 0.5),
    ("variance", {"gain": 2.8178}, 0, (2.8178 / FAN_IN) ** 0.5),
    ("variance", {}, 0, (1 / FAN_IN) ** 0.5),
]


@pytest.mark.parametrize(("name", "fields", "mean", "std"), MOMENTS)
def test_mean_and_standard_deviation(name: str, fields: dict[str, float], mean: float, std: float) -> None:
    made = values(init(name, **fields), WIDE)
    assert made.mean().item() == pytest.approx(mean, abs=0.02 * std + 1e-7)
    assert made.std().item() == pytest.approx(std, rel=0.02, abs=1e-7)


@pytest.mark.parametrize(("name", "fields", "mean", "std"), MOMENTS)
def test_filling_in_place_is_the_same(name: str, fields: dict[str, float], mean: float, std: float) -> None:
    start, weight = init(name, **fields), torch.empty(WIDE)
    statement = start.fill("weight")
    if not statement:
        assert name == "variance"
        return
    torch.manual_seed(0)
    eval(statement, {"nn": nn, "weight": weight})
    assert weight.mean().item() == pytest.approx(mean, abs=0.02 * std + 1e-7)
    assert weight.std().item() == pytest.approx(std, rel=0.02, abs=1e-7)


def test_shapes_of_special_starts() -> None:
    assert torch.equal(values(init("eye"), (3, 4)), torch.eye(3, 4))
    made = values(init("orthogonal", gain=2), (4, 9))
    assert torch.allclose(made @ made.T, 4 * torch.eye(4), atol=1e-5)
    logs = values(init("log_uniform", low=0.001, high=0.1), (20000,)).log()
    low, high = math.log(0.001), math.log(0.1)
    assert (logs.min().item(), logs.max().item()) == pytest.approx((low, high), abs=0.01)
    assert logs.std().item() == pytest.approx((high - low) / 12**0.5, rel=0.02)


def test_arithmetic() -> None:
    assert torch.allclose(values(combine("*", init("ones"), 1e-6), (3,)), torch.full((3,), 1e-6))
    assert torch.allclose(
        values(combine("-", 1, combine("/", init("constant", value=3), 2)), (2,)), torch.full((2,), -0.5)
    )
    assert torch.allclose(values(combine("**", combine("+", init("ones"), 2), 2), (2,)), torch.full((2,), 9.0))
    assert torch.allclose(values(combine("*", -1, init("ones")), (2,)), -torch.ones(2))
    mixed = values(combine("*", combine("+", init("normal", std=2), init("ones")), 3), (50000,))
    assert (mixed.mean().item(), mixed.std().item()) == pytest.approx((3, 6), rel=0.03)


def test_functions() -> None:
    decay = values(apply("log", init("uniform", low=1, high=16)), (1000,))
    assert 0 <= decay.min() < 0.2
    assert math.log(15) < decay.max() <= math.log(16)
    bias = values(init("softplus_inverse", start=init("log_uniform", low=0.001, high=0.1)), (1000,))
    steps = torch.nn.functional.softplus(bias)
    assert 0.00099 < steps.min() < 0.0012
    assert 0.09 < steps.max() < 0.101
    places = apply("log", combine("+", 1, Positions(axis="state", size=4)))
    expected = torch.log(1 + torch.arange(4.0))
    assert torch.allclose(values(places, (4,), ("state",)), expected)
    assert torch.allclose(values(places, (3, 4), ("c", "state")), expected.expand(3, 4))
    assert torch.allclose(values(places, (4, 3, 2), ("state", "c", "m")), expected[:, None, None].expand(4, 3, 2))
    assert torch.allclose(values(init("softplus_inverse", start=2), (2,)).exp().log1p(), torch.full((2,), 2.0))


@pytest.mark.parametrize(
    ("start", "names", "words"),
    [
        (init("kaiming"), ("c",), "at least 2 axes"),
        (init("eye"), ("a", "b", "c"), "two axes"),
        (init("orthogonal"), (), "at least 2 axes"),
        (init("log_uniform", low=0, high=1), ("c",), "positive"),
        (init("kaiming_normal", fan="up"), ("a", "b"), '"in" or "out"'),
        (init("variance", gain=-1), ("a", "b"), "negative"),
        (combine("*", init("xavier_normal"), 2), ("c",), "at least 2 axes"),
        (apply("exp", init("eye")), ("c",), "two axes"),
        (Positions(axis="n", size=3), ("c",), "no axis `n`"),
        (Positions(axis="c", size=3), ("c",), r"has 3 positions, and the weight has c = 4"),
    ],
)
def test_refusals(start: Init, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(OpError, match=words):
        start.check(dict.fromkeys(names, 4))


def test_operators_and_functions_that_have_no_meaning() -> None:
    with pytest.raises(OpError, match="does not work"):
        apply("floor", init("ones"))


def test_numbers_are_constants() -> None:
    assert as_init(2) == init("constant", value=2)
    assert as_init(init("ones")) == init("ones")


def test_weights_of_an_emitted_module_start_so() -> None:
    graph = Graph("net")
    x = graph.add_input("x", tensor(b="b", c=4))
    (y,) = graph.add(Linear(units=3, init=init("zeros"), init_bias=init("constant", value=2)), [("x", x)], label="fc")
    scale = Parameter(type=tensor(c=3), init=combine("*", init("ones"), 0.5))
    (gamma,) = graph.add(scale, label="gamma")
    graph.outputs = [("", graph.add(CONSTRUCTS["mul"](), [("a", y), ("b", gamma)])[0])]  # type: ignore[arg-type]
    assert torch.equal(load(emit(graph), class_name(graph))()(torch.randn(2, 4)), torch.ones(2, 3))


def test_starts_in_the_language() -> None:
    text = """model net() {
      input x: [b, c = 4, m = 3]
      param z: [c = 4, m = 3] = log(1 + index(m = 3)) * 2
      param bias: [c = 4] = softplus_inverse(log_uniform(0.001, 0.1))
      param k: [] = 3
      output y = x * z + bias + k
    }"""
    weights = archlang.loads(text).net().module().state_dict()
    assert torch.allclose(weights["z"], (1 + torch.arange(3.0)).log().expand(4, 3) * 2)
    assert 0.001 <= torch.nn.functional.softplus(weights["bias"]).min() <= 0.1
    assert weights["k"].item() == 3
    for start in ("kaiming", "floor(ones)", "eye"):
        with pytest.raises(archlang.ArchError):
            archlang.loads(text.replace("softplus_inverse(log_uniform(0.001, 0.1))", start)).net()
