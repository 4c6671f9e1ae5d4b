"""LSTM and GRU: as PyTorch has them, on time and space, in both directions."""

from typing import Any

import pytest
import torch
from torch import nn

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import OpError
from archlang.primitives import CONSTRUCTS
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor

both = pytest.mark.parametrize("name", ["lstm", "gru"])


def layer(name: str, **fields: Any) -> Any:
    return CONSTRUCTS[name](units=3, **fields)


@both
@pytest.mark.parametrize("bias", [True, False])
def test_on_time(name: str, bias: bool) -> None:
    check_law(layer(name, bias=bias), tensor(b="b", t=4, c=2))


@both
@pytest.mark.parametrize("fields", [{}, {"reverse": True}, {"bidirectional": True}])
def test_on_space(name: str, fields: dict[str, Any]) -> None:
    check_law(layer(name, **fields), tensor(b="b", heads=2, n="n", c=2), sizes={"n": 5})
    check_law(layer(name, on="h", **fields), tensor(h=4, w=3, c=2))


@both
def test_weights_are_those_of_torch(name: str) -> None:
    theirs = getattr(nn, name.upper())(2, 3, bidirectional=True).state_dict()
    mine = layer(name, bidirectional=True).params(tensor(b=1, n=4, c=2))
    assert {leaf: param.shape for leaf, param in mine.items()} == {k: tuple(w.shape) for k, w in theirs.items()}


def test_one_bad_sequence_reaches_no_other() -> None:
    module = check_law(layer("lstm"), tensor(b="b", t=4, c=2)).eval()
    x = torch.randn(3, 4, 2, dtype=torch.float64)
    clean = module(x)
    x[1, 2] = float("nan")
    made = module(x)
    assert torch.equal(made[::2], clean[::2]) and torch.equal(made[1, :2], clean[1, :2])


@pytest.mark.parametrize(
    ("fields", "type_", "code"),
    [
        ({"reverse": True}, tensor(b="b", t=4, c=2), "A208"),
        ({"bidirectional": True}, tensor(b="b", t=4, c=2), "A208"),
        ({"reverse": True, "bidirectional": True}, tensor(b="b", n=4, c=2), "A319"),
        ({"on": "c"}, tensor(b="b", n=4, c=2), "A206"),
        ({}, tensor(b="b", c=2), "A205"),
        ({}, tensor(b="b", h=3, w=3, c=2), "A206"),
        ({}, tensor(b="b", n=3, c=2).cast("int"), "A214"),
    ],
)
def test_refusals(fields: dict[str, Any], type_: Any, code: str) -> None:
    with pytest.raises(OpError) as failure:
        infer(layer("lstm", **fields), Facts(), [type_])
    assert failure.value.code == code
