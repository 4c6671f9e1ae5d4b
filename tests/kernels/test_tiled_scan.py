"""Scans with sums, norms and products inside."""

import sys
from typing import Any

import pytest
import torch

import archlang
from tests.kernels import check
from tests.kernels.test_chains import inputs
from tests.kernels.test_scan import forms

# What lies in a tile beyond its sizes is carried on too, and may grow without end; nothing reads it.
pytestmark = pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")

UNIT = """
model net(dim: int = 5) {
  input x: [b, t, c = dim]
  input z: [b, t, c = dim]
  input h0: [b, c = dim]
  y, m = scan t carry h: [b, c = dim] = h0 {
    u = sigmoid(z + (h -> linear(dim) as gate))
    new = tanh(x + ((u * h) -> linear(dim, bias = false) as hidden))
    h = u * h + (1 - u) * new
    yield h -> rms_norm as norm, 0.5 * mean(h, on = c) + h
  }
  output first: [b, t, c = dim] = y
  output second: [b, t, c = dim] = m
}
"""
XLSTM = """
model net(heads: int = 2, dim: int = 4) {
  input z: [b, t, heads = heads, c = dim]
  input i: [b, t, heads = heads, c = dim]
  input f: [b, t, heads = heads, c = dim]
  param rz: [heads = heads, c = dim, d = dim] = 0.1
  param ri: [heads = heads, c = dim, d = dim] = 0.2
  param rf: [heads = heads, c = dim, d = dim] = 0.1
  param ro: [heads = heads, c = dim, d = dim] = 0.3
  output y = scan t carry h: [b, heads = heads, c = dim] = 0, s: [b, heads = heads, c = dim] = 0, n: [b, heads = heads, c = dim] = 0, m: [b, heads = heads, c = dim] = -inf {
    write = i + (dot(h, ri, on = c) -> rename(d = c))
    kept = m - softplus(-(f + (dot(h, rf, on = c) -> rename(d = c))))
    top = maximum(kept, write)
    keep, new = exp(kept - top), exp(write - top)
    s = keep * s + new * tanh(z + (dot(h, rz, on = c) -> rename(d = c)))
    n, m = keep * n + new, top
    h = sigmoid(dot(h, ro, on = c) -> rename(d = c)) * s / n
    yield h
  }
}
"""
FAST = """
model net(keys: int = 5, values: int = 3) {
  input q: [b, t, heads = 2, k = keys]
  input key: [b, t, heads = 2, k = keys]
  input v: [b, t, heads = 2, v = values]
  input a: [b, t, heads = 2]
  output y = scan t carry S: [b, heads = 2, k = keys, v = values] = 0 {
    u = key -> l2_norm(on = k)
    S = tanh(a * S) + u * (v - dot(u, S, on = k))
    yield dot(q, S, on = k)
  }
}
"""
SUMS = """
model net(dim: int = 5) {
  input x: [b, n, c = dim]
  input gate: [n, c = dim]
  input slots: [b, s = 3, c = dim]
  param scale: [c = dim] = 0.7
  output y = scan along(n, reverse = true) carry M: [b, s = 3, c = dim] = slots, e: [b, s = 3] = 0.5 {
    w = softmax(dot(x * scale, M, on = c) + e, on = s)
    M = 0.6 * M + w * (x + gate) / (1 + norm(M, on = c))
    e = max(M, on = c) - min(M, on = c) + var(M, on = c) * 0.3
    yield (sum(w * M, on = s) -> layer_norm as norm)
  }
}
"""


def values(text: str, t: int, **settings: int) -> list[torch.Tensor]:
    """Inputs of a program, for two samples and so many positions."""
    network, sizes = archlang.loads(text).architecture(settings=settings), {"b": 2, "t": t, "n": t}
    random = torch.Generator().manual_seed(0)
    shapes = [[sizes.get(str(a.size)) or int(str(a.size)) for a in x.type] for x in network.graph.inputs.values()]
    return [torch.randn(shape, generator=random) for shape in shapes]


TEXTS = {"unit": UNIT, "xlstm": XLSTM, "fast": FAST, "sums": SUMS}
QUICK = [("unit", {}, 5), ("xlstm", {}, 3), ("fast", {}, 34), ("sums", {}, 5)]
MORE = [(name, {}, t) for name in TEXTS for t in (1, 17, 63, 64, 100)]
MORE += [("unit", {"dim": 16}, 17), ("unit", {"dim": 17}, 33), ("fast", {"keys": 8, "values": 17}, 17)]


@pytest.mark.parametrize(("form", "sizes", "t"), [*QUICK, *(pytest.param(*m, marks=pytest.mark.slow) for m in MORE)])
def test_values_and_gradients(form: str, sizes: dict[str, int], t: int) -> None:
    kernel, plain, weights = forms(TEXTS[form], **sizes)
    check(kernel, plain, [*values(TEXTS[form], t, **sizes), *weights])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", ["unit", "fast"])
def test_half_precision(form: str, kind: torch.dtype) -> None:
    kernel, plain, weights = forms(TEXTS[form])
    check(kernel, plain, [*values(TEXTS[form], 20), *weights], kind)


def test_rows_of_a_tile_beyond_the_last_do_not_overflow() -> None:
    lasting = SUMS.replace("M = 0.6 * M", "M = 0.9 * M")
    kernel, _, weights = forms(lasting)
    kernel(*values(lasting, 100), *weights)


def test_tensors_lie_as_they_come() -> None:
    kernel, plain, _ = forms(FAST)
    given = values(FAST, 5)
    apart = [x.transpose(1, -1).contiguous().transpose(1, -1) for x in given]
    torch.testing.assert_close(kernel(*apart), plain(*given), rtol=1e-4, atol=1e-5)


def test_compilers_take_it_as_one_step() -> None:
    network = archlang.loads(FAST).net()
    plain, fused = (network.module(seed=0, target=target) for target in ("torch", "triton"))
    check(torch.compile(fused, backend="aot_eager", fullgraph=True), plain, values(FAST, 3))


def test_operators_are_well_formed() -> None:
    fused = archlang.loads(FAST).net().module(target="triton")
    module: Any = sys.modules[type(fused).__module__]
    (step,) = (f for name, f in vars(module).items() if name.startswith("scan_") and name.endswith("_step"))
    q, key, v, a = (x.transpose(1, 2).requires_grad_() for x in values(FAST, 3))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(step, (a, v, q, key, 0.0), test_utils=tests)


@pytest.mark.parametrize("form", ["sums", *(pytest.param(name, marks=pytest.mark.slow) for name in TEXTS)])
def test_elsewhere_it_is_a_loop_in_pytorch(form: str) -> None:
    text = TEXTS[form]
    network = archlang.loads(text).net()
    plain, fused = (network.module(seed=0, target=target).double() for target in ("torch", "triton"))
    given = [x.double() for x in values(text, 4)]
    torch.testing.assert_close(fused(*given), plain(*given))


def test_weights_keep_their_names() -> None:
    network = archlang.loads(UNIT).net()
    plain, fused = (network.module(seed=0, target=target) for target in ("torch", "triton"))
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in fused.state_dict().items()}


def test_numbers_are_those_of_each_scan() -> None:
    text = """
    block cell(eps: float)(x: [b, t, c]) -> [b, t, c] {
      y = scan t carry h: [b, c] = 0 {
        h = tanh(x + l2_norm(h, eps = eps))
        yield h
      }
      return y
    }
    model net {
      input x: [b, t, c = 4]
      output z = ((0.1 * x) -> cell(0.8) as first) -> cell(0.05) as second
    }
    """
    kernel, plain, weights = forms(text)
    check(kernel, plain, [*inputs(1, 2, 3, 4), *weights])


WIDE = """
model net {
  input x: [b, t, c = 300]
  output y = scan t carry h: [b, c = 300] = 0 {
    h = tanh(x + (h -> linear(300) as rec))
    yield h
  }
}
"""


def test_what_fits_no_registers_stays_a_loop() -> None:
    network = archlang.loads(WIDE).net()
    assert "numbers fit no registers" in network.explain(target="triton")
    assert "for " in network.source("triton").partition("class Net")[2]


def launch(kind: torch.dtype, form: str, sizes: dict[str, int]) -> None:
    """One of the configurations that `test_aot` compiles."""
    text = TEXTS[form]
    fused = archlang.loads(text).architecture(settings=sizes).module(target="triton").to(kind)
    sys.modules[type(fused).__module__].runs = lambda *x: True  # type: ignore[attr-defined]
    made = fused(*(x.to(kind).requires_grad_() for x in values(text, 64, **sizes)))
    (made if isinstance(made, torch.Tensor) else made[0]).sum().backward()
