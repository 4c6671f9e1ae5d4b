"""Fourier transforms of whole axes: as the sums of the definition, there and back."""

from typing import Any

import pytest
import torch

from archlang.facts import Facts
from archlang.ir import infer
from archlang.primitive import OpError
from archlang.primitives import CONSTRUCTS
from archlang.testing.laws import check_law
from archlang.testing.strategies import tensor

MAPS = [tensor(n=6), tensor(b="b", n=7, c=2), tensor(b="b", c=2, h=4, w=5), tensor(b="b", h=3, w=6)]


def op(name: str, **fields: Any) -> Any:
    return CONSTRUCTS[name](**fields)


@pytest.mark.parametrize("x", MAPS, ids=str)
def test_whole_spectra(x: Any) -> None:
    check_law(op("fft", on=("space",)), x)
    check_law(op("fft", on=("space",)), x.cast("complex"))
    check_law(op("ifft", on=("space",)), x.cast("complex"))


@pytest.mark.parametrize("x", MAPS, ids=str)
def test_there_and_back(x: Any) -> None:
    there, last = op("rfft", on=("space",)), x.names[-1] if x.names[-1] != "c" else "n"
    back = op("irfft", on=("space",), size=x.size(last))
    made, undone = check_law(there, x), check_law(back, there.infer(Facts(), x))
    values = torch.randn([2 if axis.name == "b" else axis.size for axis in x], dtype=torch.float64)
    torch.testing.assert_close(undone(made(values)), values)


def test_the_last_axis_written_is_halved() -> None:
    x = tensor(b="b", h=4, w=6)
    assert check_law(op("rfft", on=("w", "h")), x)(torch.randn(2, 4, 6, dtype=torch.float64)).shape == (2, 3, 6)
    check_law(op("irfft", on=("w", "h")), tensor(b="b", h=3, w=6).cast("complex"))


def test_free_sizes() -> None:
    check_law(op("rfft", on=("n",)), tensor(b="b", n="n", c=2), sizes={"n": 5})


@pytest.mark.parametrize(
    ("name", "fields", "type_", "code"),
    [
        ("fft", {"on": ("n",)}, tensor(n=4).cast("int"), "A214"),
        ("fft", {"on": ("h",)}, tensor(n=4), "A205"),
        ("rfft", {"on": ()}, tensor(n=4), "A319"),
        ("fft", {"on": ("t",)}, tensor(t=4), "A208"),
        ("ifft", {"on": ("n",)}, tensor(n=4).cast("bool"), "A214"),
        ("rfft", {"on": ("n",)}, tensor(n=4).cast("complex"), "A214"),
        ("irfft", {"on": ("n",)}, tensor(n=4), "A214"),
        ("irfft", {"on": ("n",), "size": 8}, tensor(n=4).cast("complex"), "A204"),
    ],
)
def test_refusals(name: str, fields: dict[str, Any], type_: Any, code: str) -> None:
    with pytest.raises(OpError) as failure:
        infer(op(name, **fields), Facts(), [type_])
    assert failure.value.code == code
