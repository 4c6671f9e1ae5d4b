"""Sums of curves in a basis of functions."""

import sys
from typing import Any

import pytest
import torch
import torch.utils.checkpoint

import archlang
from tests.kernels import check, emitted, guarded
from tests.kernels.test_chains import forms as networks

NET = """
use std.kan: kan, learned_activation
model net {
  input x: [b, t, c = 4]
  first = x -> kan(5) as cubic
  second = first -> kan(5, basis = bspline(order = 1)) as ramps -> kan(5, basis = bspline(order = 0)) as steps
  third = second -> kan(5, basis = layer_norm -> rbf, bias = true, scaled = true) as bumps
  fourth = third -> kan(5, basis = tanh -> chebyshev, base = none) as polynomials
  fifth = fourth -> kan(5, basis = rswaf, base = none) as switches
  sixth = fifth -> fourier(3) as waves -> linear([c = 6], on = [c, term]) as last
  output y = sixth -> learned_activation as curves -> learned_activation(basis = layer_norm -> rbf) as more
}
"""
ONE = """
use std.kan: kan
model net(dim: int = 4, units: int = 5) {
  input x: [b, c = dim]
  output y = x -> kan(units, basis = BASIS, base = none) as layer
}
"""
CURVE = """
use std.kan: learned_activation
model net(dim: int = 4) {
  input x: [b, c = dim]
  output y = x -> learned_activation(basis = BASIS) as act
}
"""
COUNTS = {"rbf": 6, "rswaf": 6, "chebyshev": 5, "fourier": 6, "cubic": 7, "linear": 5, "steps": 4}
GIVEN: dict[str, tuple[Any, ...]] = {
    "rbf": (6, -2.0, 2.0, 0.7),
    "rswaf": (6, -1.5, 2.0, 0.33),
    "chebyshev": (4,),
    "fourier": (3,),
}
ORDERS = {"cubic": 3, "linear": 1, "steps": 0}


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def forms(module: Any, kind: str, c: int = 4, helper: str = "basis_linear") -> tuple[Any, Any]:
    """The kernel and the PyTorch form as functions of x and the weight; splines have knots at uneven distances."""
    random = torch.Generator().manual_seed(5)
    if kind in ORDERS:
        knots = torch.rand(c, COUNTS[kind] + ORDERS[kind] + 1, generator=random).add(0.2).cumsum(1) * 0.5 - 2.0
        basis, given = module.cox_de_boor, lambda x: (guarded(knots.to(x.dtype)), ORDERS[kind])
    else:
        basis, given = getattr(module, kind), lambda x: GIVEN[kind]
    kernel, form = getattr(module, f"triton_{helper}"), getattr(module, helper)
    return (
        lambda x, weight: kernel(x, weight, basis, *given(x)),
        lambda x, weight: form(x, weight, basis, *given(x)) + 0.0 * x.sum(),
    )


def inputs(rows: int, c: int, units: int, kind: str) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, rows, c, generator=random) * 0.9,
        torch.randn(units, c * COUNTS[kind], generator=random),
    ]


@pytest.mark.parametrize("kind", COUNTS)
def test_bases(module: Any, kind: str) -> None:
    check(*forms(module, kind), inputs(9, 4, 5, kind))


@pytest.mark.parametrize(
    ("rows", "c", "units"),
    [
        (1, 1, 1),
        (63, 17, 65),
        *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in [(17, 64, 63), (64, 33, 100), (100, 63, 17)]),
    ],
)
@pytest.mark.parametrize("kind", ["rbf", pytest.param("cubic", marks=pytest.mark.slow)])
def test_sizes(module: Any, rows: int, c: int, units: int, kind: str) -> None:
    check(*forms(module, kind, c), inputs(rows, c, units, kind))


@pytest.mark.parametrize(
    ("rows", "c", "kind"),
    [(1, 1, "rbf"), (17, 63, "cubic"), (100, 5, "chebyshev"), pytest.param(64, 200, "rswaf", marks=pytest.mark.slow)],
)
def test_curves_of_channels(module: Any, rows: int, c: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CURVE_PARTS", 2)
    x, weight = inputs(rows, c, 1, kind)
    check(*forms(module, kind, c, "basis_curve"), [x, weight.view(c, -1)])


def test_large_angles(module: Any) -> None:
    """As far as a number of quarters of a turn has 16 bits; where a wave turns, too."""
    turns = torch.tensor([[0.0, 0.125, 0.25, 0.375, 0.5, 0.75], [0.875, 1.0, 3.3, 100.1, 9e3, 1.6e4]]).flatten()
    x, weight = torch.cat([turns, -turns])[:, None] * 6.2831853, torch.tensor([[1.0, 0.5]])
    kernel, form = module.triton_basis_curve, module.basis_curve
    check(*(lambda x, w, f=f: f(x, w, module.fourier, 1) for f in (kernel, form)), [x, weight])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    x, weight = inputs(9, 4, 5, "rbf")
    check(*forms(module, "rbf"), [x, weight], kind)
    check(*forms(module, "rbf", helper="basis_curve"), [x, weight[0].view(4, -1)], kind)


def test_programs_sum_several_tiles_each(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BASIS_PROGRAMS", 12)
    check(*forms(module, "rbf"), inputs(50, 4, 5, "rbf"))


def test_networks() -> None:
    assert archlang.loads(NET).net().explain(target="triton").count("kernel basis_") == 9
    kernel, plain, weights = networks(NET)
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3)) / 2
    given = [w.requires_grad_() for w in (x, *weights)]
    found, meant = kernel(*given), plain(*given)
    torch.testing.assert_close(found, meant, rtol=1e-4, atol=1e-5)
    slopes = zip(*(torch.autograd.grad(y.sum(), given) for y in (found, meant)), strict=True)
    for ours, theirs in slopes:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_grids_move_as_before() -> None:
    network = archlang.loads(ONE.replace("BASIS", "bspline")).net()
    plain, fused = (network.module(seed=0, target=target) for target in ("torch", "triton"))
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(4))
    for layer in (plain.layer, fused.layer):
        layer.spline.weight.data = layer.basis.move_grid(x, layer.spline.weight)
    torch.testing.assert_close(fused(x), plain(x), rtol=1e-4, atol=1e-5)


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module, "chebyshev")
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs(5, 4, 5, "chebyshev"))


def test_operators_are_well_formed(module: Any) -> None:
    x, weight = (y.requires_grad_() for y in (torch.randn(7, 4), torch.randn(6, 4, 5)))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.sum_curves, (x, weight, None, [-2.0, 0.8, 0.7], "rbf", -1), test_utils=tests)
    one = weight.detach()[:, :, 0].T.contiguous().requires_grad_()
    torch.library.opcheck(module.draw_curves, (x, one, None, [-2.0, 0.8, 0.7], "rbf", -1), test_utils=tests)


def test_what_reads_the_functions_keeps_them() -> None:
    text = """
    model net {
      input x: [b, c = 4]
      f = x -> rbf
      y = f -> linear([c = 4], on = [c, term]) as first
      output z = y + sum(f, on = term)
      output u = x -> fourier(2) -> linear(3, on = [term]) as second
      param mixed: [term = 6] = 0.5
      output v = dot(x -> fourier(3), mixed, on = term)
    }
    """
    said = archlang.loads(text).net().explain(target="triton")
    assert "the values of the functions are read elsewhere too" in said
    assert "the layer sums over other axes than the channels and their functions" in said
    assert "the curves are not one for each channel" in said


def launch(kind: torch.dtype, c: int, units: int, basis: str) -> None:
    """One of the configurations that `test_aot` compiles; without units one curve for each channel."""
    text, sizes = (ONE, {"dim": c, "units": units}) if units else (CURVE, {"dim": c})
    fused: Any = archlang.loads(text.replace("BASIS", basis)).net(**sizes).module(target="triton").to(kind)
    sys.modules[type(fused).__module__].runs = lambda *x: True  # type: ignore[attr-defined]
    fused(torch.empty(512, c, dtype=kind, requires_grad=True)).sum().backward()
