"""Scans of operations on single elements."""

import sys
from typing import Any

import pytest
import torch

import archlang
from tests.kernels import check
from tests.kernels.test_chains import forms as networks
from tests.kernels.test_chains import inputs

CELL = """
model net(dim: int = 4) {
  input x: [b, t, c = dim]
  input f: [b, t, c = dim]
  input h0: [b, c = dim]
  param u: [c = dim] = 0.5
  y, m = scan t carry h: [b, c = dim] = h0, s: [b, c = dim] = 0.5 {
    before = s * 0.7
    h, s = tanh(x + u * h * f), sigmoid(f) * maximum(s, h - 0.2)
    yield h, before
  }
  output first: [b, t, c = dim] = y
  output second: [b, t, c = dim] = m
}
"""
SUM = """
model net(dim: int = 4) {
  input x: [b, t, c = dim]
  input f: [b, t, c = dim]
  output y: [b, t, c = dim] = gated_sum(x, sigmoid(f))
}
"""
ROWS = """
model net {
  input x: [b, h, w, c = 3]
  input gate: [b, h, w]
  input start: [b, h, c = 3]
  param scale: [h = 4] = 0.3
  output y = scan along(w, reverse = true) carry s: [b, h, c = 3] = start {
    s = silu(gate * x + scale * s)
    yield s
  }
}
"""
XLSTM = """
model net {
  input z: [b, t, c = 3]
  input i: [b, t, c = 3]
  input f: [b, t, c = 3]
  output h = scan t carry s: [b, c = 3] = 0, n: [b, c = 3] = 0, m: [b, c = 3] = -inf {
    kept = m - softplus(-f)
    top = maximum(kept, i)
    keep, write = exp(kept - top), exp(i - top)
    s, n, m = keep * s + write * tanh(z), keep * n + write, top
    yield s / n
  }
}
"""
BEFORE = """
model net {
  input x: [b, c = 3, n]
  output y = gated_sum(x, factor = 0.9, on = n, reverse = true)
}
"""


def forms(text: str, **settings: Any) -> Any:
    """The kernel and the PyTorch form as functions of inputs and weights, and the weights."""
    said = archlang.loads(text).architecture(settings=settings).explain(target="triton")
    assert "in one pass along" in said and "refused" not in said
    return networks(text, **settings)


@pytest.mark.parametrize(
    ("t", "c"),
    [(1, 1), (17, 63), (100, 5), *(pytest.param(*size, marks=pytest.mark.slow) for size in [(63, 17), (64, 100)])],
)
def test_cells(t: int, c: int) -> None:
    kernel, plain, weights = forms(CELL, dim=c)
    check(kernel, plain, [*inputs(2, 2, t, c), *inputs(1, 2, c), *weights])


@pytest.mark.parametrize(("t", "c"), [(33, 17), pytest.param(64, 64, marks=pytest.mark.slow)])
def test_sums(t: int, c: int) -> None:
    kernel, plain, _ = forms(SUM, dim=c)
    check(kernel, plain, inputs(2, 2, t, c))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(kind: torch.dtype) -> None:
    kernel, plain, _ = forms(SUM)
    check(kernel, plain, inputs(2, 2, 20, 4), kind)


def test_what_lacks_axes_is_broadcast() -> None:
    kernel, plain, weights = forms(ROWS)
    x, gate, start = (inputs(1, *shape)[0] for shape in [(2, 4, 5, 3), (2, 4, 5), (2, 4, 3)])
    check(kernel, plain, [x, gate, start, *weights])


def test_scalar_states_of_an_xlstm() -> None:
    kernel, plain, _ = forms(XLSTM)
    check(kernel, plain, inputs(3, 2, 40, 3))


def test_an_axis_that_lies_last() -> None:
    kernel, plain, _ = forms(BEFORE)
    check(kernel, plain, inputs(1, 2, 3, 5))


def test_compilers_take_it_as_one_step() -> None:
    network = archlang.loads(SUM).net()
    plain, fused = (network.module(seed=0, target=target) for target in ("torch", "triton"))
    check(torch.compile(fused, backend="aot_eager", fullgraph=True), plain, inputs(2, 2, 5, 4))


def test_operators_are_well_formed() -> None:
    fused = archlang.loads(SUM).net().module(target="triton")
    module: Any = sys.modules[type(fused).__module__]
    given = [x.requires_grad_() for x in inputs(2, 2, 5, 4)]
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.scan_mul_add_step, (*given, 0.0), test_utils=tests)


def test_elsewhere_it_is_a_loop_in_pytorch() -> None:
    network = archlang.loads(CELL).net()
    plain, fused = (network.module(seed=0, target=target).double() for target in ("torch", "triton"))
    given = [x.double() for x in (*inputs(2, 2, 5, 4), *inputs(1, 2, 4))]
    torch.testing.assert_close(fused(*given), plain(*given))


REFUSED = {
    "h = tanh(x + sort(h, on = c))": "`sort` is no operation on single elements of float",
    "h = tanh(x + sort(h, on = c) + sum(h, on = c))": "`sort` is nothing that a kernel does with tiles of float",
    "h = tanh(gate + h)": "no input has all axes of the carries at each position",
}


@pytest.mark.parametrize("body", REFUSED)
def test_what_stays_a_loop(body: str) -> None:
    text = f"""
    model net {{
      input x: [b, t, c = 4]
      input gate: [b, t]
      y = scan t carry h: [b, c = 4] = 0 {{
        {body}
        yield h
      }}
      output z = y + x
    }}
    """
    network = archlang.loads(text).net()
    assert REFUSED[body] in network.explain(target="triton")
    assert "for " in network.source("triton").partition("class Net")[2]


def launch(kind: torch.dtype, c: int, form: str) -> None:
    """One of the configurations that `test_aot` compiles."""
    fused = archlang.loads(CELL if form == "cell" else SUM).net(dim=c).module(target="triton").to(kind)
    sys.modules[type(fused).__module__].runs = lambda *x: True  # type: ignore[attr-defined]
    x, f, h = (torch.empty(*shape, c, dtype=kind, requires_grad=True) for shape in [(2, 64), (2, 64), (2,)])
    made = fused(x, f, h)[0] if form == "cell" else fused(x, f)
    made.sum().backward()
