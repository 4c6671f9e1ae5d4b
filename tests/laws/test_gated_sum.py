"""Gated sums: laws, and what they refuse."""

import pytest
import torch

from archlang.helpers.linear_scan import linear_scan
from archlang.primitive import OpError
from archlang.primitives.gated_sum import GatedSum
from archlang.shapes import TensorType, axis
from archlang.sizes import symbol
from archlang.testing.laws import check_law

B, T, N, C, H = (axis(name, symbol(name)) for name in "btnch")
SIZES = {"b": 2, "t": 5, "n": 4, "c": 3, "h": 2}


def type_(*axes: object, dtype: str = "float") -> TensorType:
    return TensorType(tuple(axes), dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        (GatedSum(), (type_(B, T, C), type_(B, T, C))),
        (GatedSum(), (type_(B, T, C), type_(C))),
        (GatedSum(), (type_(B, T, H, C), type_(B, T, H), type_(B, H, C))),
        (GatedSum(), (type_(B, T), type_(B, T, C), type_(C))),
        (GatedSum(factor=0.5), (type_(B, T, C),)),
        (GatedSum(factor=0.5), (type_(B, T, C), None, type_(B, C))),
        (GatedSum(reverse=True), (type_(B, N, C), type_(B, N, C))),
        (GatedSum(on="h", reverse=True), (type_(B, N, H, C), type_(H))),
    ],
)
def test_law(op: GatedSum, inputs: tuple[TensorType, ...]) -> None:
    check_law(op, *inputs, sizes=SIZES)


@pytest.mark.parametrize("length", [2**11, pytest.param(2**16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("decay", [0.999, "gate"])
def test_in_working_precision(decay: float | str, length: int) -> None:
    """Slow and strong decays over a long sequence; a sum in bfloat16 would stand still."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(length, 2, generator=random) + 1
    given = (
        decay
        if isinstance(decay, float)
        else torch.tensor([0.0, -1e-3, -0.1, -20.0])[torch.randint(0, 4, (length, 2), generator=random)].exp()
    )
    double = given if isinstance(given, float) else given.double()
    meant = linear_scan(double, x.double())
    assert (linear_scan(given, x) - meant).abs().max() <= 1e-5 * meant.abs().max()
    made = linear_scan(given, x.bfloat16()) if isinstance(given, float) else linear_scan(given.bfloat16(), x.bfloat16())
    double = given if isinstance(given, float) else given.bfloat16().double()
    meant = linear_scan(double, x.bfloat16().double())
    assert made.dtype == torch.bfloat16
    assert (made - meant).abs().max() <= 2**-8 * meant.abs().max()


@pytest.mark.parametrize("decay", [0.9, "gate"])
def test_as_compiled(decay: float | str) -> None:
    """By doubling, at any length."""
    for length in (1, 16, 37):
        x, state = torch.randn(length, 2), torch.randn(2)
        given = decay if isinstance(decay, float) else torch.rand(length, 2)
        compiled = torch.compile(linear_scan, backend="eager", fullgraph=True, dynamic=False)
        torch.testing.assert_close(compiled(given, x, state), linear_scan(given, x, state))


def test_slopes_and_slopes_of_slopes() -> None:
    """Of decays, values and what was before, in both directions; the values stay as they were."""
    random = torch.Generator().manual_seed(0)
    decay, x, state = (torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((5, 3), (5, 3), (3,)))
    before = x.clone()
    linear_scan(decay, x, state)
    assert torch.equal(x, before)
    for given in ((decay, x, state), (decay, x), (decay, x, state[:1])):
        leaves = [leaf.clone().requires_grad_() for leaf in given]
        assert torch.autograd.gradcheck(linear_scan, leaves)
        assert torch.autograd.gradgradcheck(linear_scan, leaves)


def test_a_constant_decay_keeps_nothing() -> None:
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda saved: saved):
        linear_scan(0.9, torch.randn(64, 8, requires_grad=True))
    assert sum(saved.untyped_storage().nbytes() for saved in kept) <= 8 * 8


@pytest.mark.parametrize(
    ("op", "inputs", "said"),
    [
        (GatedSum(), (type_(B, C), type_(C)), "no axes to run along"),
        (GatedSum(), (type_(B, T, C),), "either `decay` or a number"),
        (GatedSum(), (type_(B, T, C), type_(C, dtype="int")), "takes float tensors"),
        (GatedSum(), (type_(B, T, C), type_(C), type_(B, T, C)), "before all positions"),
        (GatedSum(), (type_(B, T), type_(T), type_(B, C)), "has axes that"),
    ],
)
def test_refuses(op: GatedSum, inputs: tuple[TensorType, ...], said: str) -> None:
    from archlang.facts import Facts

    with pytest.raises(OpError, match=said):
        op.infer(Facts(), *inputs)
