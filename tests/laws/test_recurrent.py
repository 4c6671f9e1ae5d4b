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


def starts(name: str, **sizes: Any) -> list[Any]:
    return [tensor(**sizes)] * (2 if name == "lstm" else 1)


@both
@pytest.mark.parametrize("length", [1, 4])
def test_a_state_to_start_from_and_the_last_one(name: str, length: int) -> None:
    """Of each sample, or one for all."""
    x = tensor(b="b", t=length, c=2)
    check_law(layer(name, final=True), x)
    check_law(layer(name, final=True), x, *starts(name, b="b", c=3))
    check_law(layer(name), x, *starts(name, c=3))


@both
@pytest.mark.parametrize("fields", [{}, {"reverse": True}, {"bidirectional": True}])
def test_states_on_space(name: str, fields: dict[str, Any]) -> None:
    """Those of both directions stand side by side."""
    x, units = tensor(b="b", heads=2, n="n", c=2), 6 if "bidirectional" in fields else 3
    check_law(layer(name, final=True, **fields), x, *starts(name, heads=2, c=units), sizes={"n": 5})
    check_law(layer(name, on="n", final=True, **fields), tensor(n=4, c=2), *starts(name, c=units))


def test_states_are_those_of_torch() -> None:
    module = check_law(
        layer("lstm", bidirectional=True, final=True), tensor(b="b", n=4, c=2), *starts("lstm", b="b", c=6)
    )
    x, h, s = torch.randn(2, 4, 2).double(), torch.randn(2, 2, 3).double(), torch.randn(2, 2, 3).double()
    y, (h_n, s_n) = next(m for m in module.modules() if isinstance(m, nn.LSTM))(x, (h, s))
    made = module(x, *(state.transpose(0, 1).flatten(1) for state in (h, s)))
    torch.testing.assert_close(made, (y, *(state.transpose(0, 1).flatten(1) for state in (h_n, s_n))))


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ([tensor(b="b", c=3)], "A319", "an `lstm` starts from all of its states, and `cell` is missing"),
        ([tensor(b="b", t=4, c=3)] * 2, "A205", "`start` has t = 4"),
        ([tensor(b="b", c=4)] * 2, "A204", "axis `c` has 4 in `start`, and 3 in the state"),
        ([tensor(b="b", c=3), tensor(b="b")], "A205", "there is no axis `c`"),
        ([tensor(b="b", c=3).cast("int")] * 2, "A214", "`start` is int"),
    ],
)
def test_states_that_are_refused(given: list[Any], code: str, said: str) -> None:
    with pytest.raises(OpError) as failure:
        layer("lstm").infer(Facts(), tensor(b="b", t=4, c=2), *given)
    assert failure.value.code == code and said in str(failure.value)


def test_a_last_state_has_seen_time_whole() -> None:
    assert layer("gru", final=True).infer(Facts(), tensor(b="b", t=4, c=2))[1].lost == {"t"}


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
