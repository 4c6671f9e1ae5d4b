"""Signals in time and frequency: as the sums of the definition, there and back."""

from typing import Any

import pytest
import torch

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import OpError
from archlang.primitives import CONSTRUCTS
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor

SIGNALS = [tensor(n=20), tensor(b="b", n=20), tensor(b="b", n=21, c=2)]


def op(name: str, **fields: Any) -> Any:
    return CONSTRUCTS[name](**fields)


@pytest.mark.parametrize("x", SIGNALS, ids=str)
@pytest.mark.parametrize("window", ["hann", "hamming", "rectangle"])
def test_stft(x: Any, window: str) -> None:
    check_law(op("stft", size=8, hop=3, window=window), x)


def test_frames_from_the_start() -> None:
    check_law(op("stft", size=4, hop=2, center=False, on="h"), tensor(b="b", h="h"), sizes={"h": 11})


@pytest.mark.parametrize("x", SIGNALS, ids=str)
def test_there_and_back(x: Any) -> None:
    there, length = op("stft", size=8, hop=2), x.size("n")
    back = op("istft", size=8, hop=2, length=length)
    made = check_law(there, x)
    undone = check_law(back, there.infer(Facts(), x))
    signal = torch.randn([2 if axis.name == "b" else axis.size for axis in x], dtype=torch.float64)
    torch.testing.assert_close(undone(made(signal)), signal)


def test_length_by_default() -> None:
    check_law(op("istft", size=4, hop=2), tensor(b="b", freq=3, n=5).cast("complex"))


@pytest.mark.parametrize(
    ("name", "fields", "type_", "code"),
    [
        ("stft", {"size": 8, "hop": 0}, tensor(n=20), "A319"),
        ("stft", {"size": 7, "hop": 2}, tensor(n=20), "A319"),
        ("stft", {"size": 48, "hop": 2}, tensor(n=20), "A204"),
        ("stft", {"size": 8, "hop": 2}, tensor(t=20), "A208"),
        ("stft", {"size": 8, "hop": 2}, tensor(n=20).cast("complex"), "A214"),
        ("stft", {"size": 8, "hop": 2}, tensor(n=20, freq=3), "A206"),
        ("istft", {"size": 8, "hop": 2}, tensor(n=20, freq=4).cast("complex"), "A204"),
        ("istft", {"size": 8, "hop": 2}, tensor(n=20, freq=5), "A214"),
        ("istft", {"size": 8, "hop": 2, "center": False}, tensor(n=20, freq=5).cast("complex"), "A319"),
    ],
)
def test_refusals(name: str, fields: dict[str, Any], type_: Any, code: str) -> None:
    with pytest.raises(OpError) as failure:
        infer(op(name, **fields), Facts(), [type_])
    assert failure.value.code == code
