"""What kernels that are written from a graph do with numbers that are hard: as exact as PyTorch at the same precision,
gates that are wide open or shut, long sequences, tensors of more than 2^31 numbers.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.kernels import emitted, results
from tests.kernels import test_causal_conv as conv
from tests.kernels import test_chains as chains
from tests.kernels import test_scan as scan
from tests.kernels import test_tiled_scan as tiled

HALF = torch.float16  # bfloat16 is cut off in the interpreter, not rounded as on a GPU


def errors(function: Any, plain: Any, given: Sequence[torch.Tensor], kind: torch.dtype) -> list[float]:
    """The mean errors of a result and of gradients against the PyTorch form in float64."""
    exact = results(plain, [x.to(kind).double() for x in given], torch.float64)
    found = results(function, given, kind)
    return [float((ours.double() - meant).abs().mean()) for ours, meant in zip(found, exact, strict=True)]


def check_against_peer(kernel: Any, plain: Any, given: Sequence[torch.Tensor], kind: torch.dtype) -> None:
    """No error is 1.5 times that of PyTorch in the same dtype, or of the rounding of numbers about 1 to it."""
    unit = torch.finfo(kind).eps
    pairs = zip(errors(kernel, plain, given, kind), errors(plain, plain, given, kind), strict=True)
    for place, (ours, theirs) in enumerate(pairs):
        assert ours <= 1.5 * max(theirs, unit / 4), f"result {place}: {ours:.1e}, PyTorch {theirs:.1e}"


CASES = {
    "chain": (chains.SANDWICH, [(2, 3, 8), (2, 3, 8)]),
    "scan": (scan.SUM, [(2, 30, 4), (2, 30, 4)]),
    "cell": (scan.XLSTM, [(2, 30, 3)] * 3),
    "tiled": (tiled.FAST, [(2, 20, 2, 5), (2, 20, 2, 5), (2, 20, 2, 3), (2, 20, 2)]),
}


def case(name: str) -> tuple[Any, Any, list[torch.Tensor]]:
    """A kernel, the PyTorch form, and what they take."""
    text, shapes = CASES[name]
    kernel, plain, weights = chains.forms(text)
    return kernel, plain, [*(torch.randn(s, generator=torch.Generator().manual_seed(i)) for i, s in enumerate(shapes)), *weights]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_kernels_are_as_exact_as_pytorch(name: str) -> None:
    check_against_peer(*case(name), HALF)


def test_convolutions_are_as_exact_as_pytorch() -> None:
    options = {"silu": True, "before": True}
    check_against_peer(*conv.forms(emitted(conv.NET), **options), conv.inputs(17, 6, 4, **options), HALF)


@pytest.mark.parametrize("word", ["tanh", "log1p", "expm1", "softplus", "elu"])
def test_small_numbers_keep_their_digits(word: str) -> None:
    kernel, plain, _ = chains.forms(chains.program([f"{word}(x)"]).replace("* h + 1", "* h"))
    size = torch.logspace(-6, 0, 60).view(10, 6)
    x = -20 * size.sqrt() if word == "softplus" else torch.cat([size, -0.9 * size])
    given = [x, torch.ones_like(x)]
    torch.testing.assert_close(kernel(*given).double(), plain(*(v.double() for v in given)), rtol=2e-6, atol=0)


# e^x of what is far from 0 is infinite on the way to a sigmoid, which is 0 there
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("size", [60.0, 1000.0])
@pytest.mark.parametrize("name", ["scan", "cell", "chain"])
def test_gates_that_are_wide_open_or_shut(name: str, size: float) -> None:
    kernel, plain, (first, *given) = case(name)
    given = [first, *(x.sign() * size if x.ndim == 3 else x for x in given)]
    check_against_peer(kernel, plain, given, torch.float32)


def test_gates_of_a_unit_with_products() -> None:
    kernel, plain, weights = chains.forms(tiled.XLSTM)
    z, i, f = tiled.values(tiled.XLSTM, 6)
    check_against_peer(kernel, plain, [z, i.sign() * 80, f.sign() * 80, *weights], torch.float32)


@pytest.mark.slow
def test_long_sequences() -> None:
    kernel, plain, _ = chains.forms(scan.SUM, dim=1)
    given = [torch.randn(1, 65536, 1, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    torch.testing.assert_close(kernel(*given).double(), plain(*(x.double() for x in given)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_samples_may_lie_far_apart(name: str) -> None:
    kernel, _, (first, *given) = case(name)
    near = [x.half() for x in (first, *given)]
    far = torch.empty(2**31 + 4096, dtype=torch.float16)  # memory that is not touched is not there
    apart = far.as_strided(first.shape, (2**31, *first.stride()[1:])).copy_(near[0])
    torch.testing.assert_close(kernel(apart, *near[1:]), kernel(*near), rtol=0, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_equal_inputs_give_equal_results(name: str) -> None:
    kernel, _, given = case(name)
    first, second = (results(kernel, given, torch.float32) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
