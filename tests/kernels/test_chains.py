"""Chains of operations on single elements, and of norms."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

import archlang
from archlang.emit.chains.forms import FORMS, OVER
from archlang.passes.chains import NORMS, SINGLE
from archlang.passes.tiled_scans import OVER as TILED
from tests.kernels import check

NORM = """
model net(c: int = 8, bias: bool = true) {
  input x: [b, t, c = c]
  input h: [b, t, c = c]
  input gate: [b, t, c = c]
  y = x + h
  z = y -> layer_norm(bias = bias) as norm
  output out = silu(gate) * z + (y -> linear(c) as skip)
}
"""
RMS = """
model net(c: int = 8) {
  input x: [b, t, c = c]
  input h: [b, t, c = c]
  y = x + h
  output out = y
  output z = y -> rms_norm as norm
}
"""
WORDS = "relu relu6 sigmoid tanh silu swish gelu gelu_tanh quick_gelu mish softsign hard_sigmoid hard_swish hard_tanh"
WORDS += " leaky_relu elu softplus exp expm1 sin cos erf square neg abs"
POSITIVE = "log log2 log1p sqrt rsqrt reciprocal"
FORMULAS = [
    *(f"{word}(x)" for word in WORDS.split()),
    *("leaky_relu(x, slope = 0.2)", "elu(x, alpha = 0.7)", "softplus(x, beta = 2)", "clamp(x, low = -0.5, high = 0.8)"),
    *(
        "x ** 2",
        "x ** 3",
        "2 - x",
        "x / 3.5",
        "maximum(x, h)",
        "minimum(x, h)",
        "maximum(x, 0.1)",
        "minimum(x, 0.2)",
        "x / (2 + h * h)",
    ),
]


def forms(text: str, **settings: Any) -> tuple[Callable[..., Any], Callable[..., Any], list[torch.Tensor]]:
    """A network with kernels and without as functions of inputs and weights, and the weights."""
    network = archlang.loads(text).architecture(settings=settings)
    return calls(network, *(network.module(seed=0, target=target) for target in ("triton", "torch")))


def calls(network: Any, fused: torch.nn.Module, plain: torch.nn.Module) -> tuple[Any, Any, list[torch.Tensor]]:
    """Modules as functions of inputs and weights, and the weights; outputs side by side."""
    names = [name for name, _ in plain.named_parameters()]
    count = len(network.inputs)

    def call(module: torch.nn.Module, *given: torch.Tensor) -> torch.Tensor:
        weights = dict(zip(names, given[count:], strict=True))
        made = torch.func.functional_call(module, weights, given[:count])
        return made if isinstance(made, torch.Tensor) else torch.stack(made)

    random = torch.Generator().manual_seed(2)
    weights = [p.detach() + torch.randn(p.shape, generator=random) / 4 for p in plain.parameters()]
    return lambda *x: call(fused, *x), lambda *x: call(plain, *x), weights


def inputs(count: int, *shape: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=random) for _ in range(count)]


def program(formulas: list[str]) -> str:
    lines = [f"  output y{i} = ({formula}) * h + 1" for i, formula in enumerate(formulas)]
    return "\n".join(["model net {", "  input x: [b, c = 6]", "  input h: [b, c = 6]", *lines, "}"])


@pytest.mark.parametrize("positive", [False, True], ids=["all", "positive"])
def test_operations_and_their_slopes(positive: bool) -> None:
    kernel, plain, _ = forms(program([f"{w}(x)" for w in POSITIVE.split()] + ["x ** 0.5", "x ** -0.5", "x ** -1"]) if positive else program(FORMULAS))  # fmt: skip
    x, h = inputs(2, 5, 6)
    x = x.abs() + 0.2 if positive else torch.cat([x[:3], x[3:] * 4])
    check(kernel, plain, [x, h])


def test_every_operation_has_a_form() -> None:
    tested = {*WORDS.split(), *POSITIVE.split(), *"add sub mul div maximum minimum clamp".split()}
    assert set(FORMS) == tested
    assert SINGLE - {"pow", "layer_scale"} == tested and set(OVER) == TILED and TILED > NORMS


@pytest.mark.parametrize(("rows", "c"), [(1, 1), (5, 17), (3, 63), (2, 64), (4, 100)])
@pytest.mark.parametrize("text", [NORM, RMS], ids=["layer_norm", "rms_norm"])
def test_norms(text: str, rows: int, c: int) -> None:
    kernel, plain, weights = forms(text, c=c)
    check(kernel, plain, [*inputs(3 if text is NORM else 2, 2, rows, c), *weights])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(kind: torch.dtype) -> None:
    kernel, plain, weights = forms(RMS, c=17)
    check(kernel, plain, [*inputs(2, 2, 3, 17), *weights], kind)


SANDWICH = """
model net(c: int = 8) {
  input x: [b, t, c = c]
  input h: [b, t, c = c]
  y = x + (h -> rms_norm as post)
  output out = y
  output z = softmax(2 * (y -> layer_norm as pre) + h, on = c) * x
}
"""


@pytest.mark.parametrize("c", [17, *(pytest.param(c, marks=pytest.mark.slow) for c in (1, 63, 64, 100))])
def test_norms_that_follow_one_another(c: int) -> None:
    kernel, plain, weights = forms(SANDWICH, c=c)
    assert archlang.loads(SANDWICH).net().explain(target="triton").count("in one pass over memory") == 1
    check(kernel, plain, [*inputs(2, 2, 3, c), *weights])


BROAD = """
model net {
  input x: [b, t, heads = 3, c = 5]
  input scale: [b, c = 5]
  input shift: [b, heads = 3, c = 5]
  input gate: [b, t, heads = 3]
  y = (x -> layer_norm(affine = false) as norm) * (1 + scale) + shift
  output z = gate * (y -> layer_scale(0.5) as gamma)
  output u = l2_norm(2 * x) * gate
}
"""


def test_what_differs_along_some_axes_is_broadcast() -> None:
    kernel, plain, weights = forms(BROAD)
    shapes = [(2, 4, 3, 5), (2, 5), (2, 3, 5), (2, 4, 3)]
    check(kernel, plain, [*(inputs(1, *shape)[0] for shape in shapes), *weights])


MAPS = """
model net {
  input x: [b, c = 3, h = 4, w = 5]
  input y: [b, c = 3, h = 4, w = 5]
  output z = silu(x) * y + x
}
"""


def test_maps_are_read_as_they_lie() -> None:
    kernel, plain, _ = forms(MAPS)
    x, y = inputs(2, 2, 3, 4, 5)
    check(lambda x, y: kernel(x.to(memory_format=torch.channels_last), y), plain, [x, y])
    assert kernel(*(v.to(memory_format=torch.channels_last) for v in (x, y))).is_contiguous(memory_format=torch.channels_last)  # fmt: skip


def test_programs_have_several_tiles_each(monkeypatch: pytest.MonkeyPatch) -> None:
    network = archlang.loads(RMS).net(c=3)
    fused = network.module(seed=0, target="triton")
    monkeypatch.setattr(sys.modules[type(fused).__module__], "CHAIN_PARTS", 2)
    kernel, plain, weights = forms(RMS, c=3)
    check(kernel, plain, [*inputs(2, 4, 600, 3), *weights])


def test_rows_that_are_too_wide_stay_with_pytorch() -> None:
    kernel, plain, weights = forms(RMS, c=5000)
    given = [*inputs(2, 1, 2, 5000), *weights]
    torch.testing.assert_close(kernel(*given), plain(*given))


def test_compilers_take_it_as_one_step() -> None:
    network = archlang.loads(RMS).net()
    plain, fused = (network.module(seed=0, target=target) for target in ("torch", "triton"))
    given = inputs(2, 2, 3, 8)
    check(lambda *x: torch.stack(torch.compile(fused, backend="aot_eager", fullgraph=True)(*x)), lambda *x: torch.stack(plain.double()(*x)), given)  # fmt: skip


def test_operators_are_well_formed() -> None:
    fused = archlang.loads(RMS).net().module(seed=0, target="triton")
    module: Any = sys.modules[type(fused).__module__]
    x, h, weight = (v.requires_grad_() for v in (*inputs(2, 3, 8), torch.ones(8)))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(module.fused_add_rms_norm_step, (x, h, weight, 1e-6), test_utils=tests)


def test_numbers_are_arguments_of_one_kernel() -> None:
    text = """
    block scaled(scale: float, eps: float)(x: [b, c]) -> [b, c] = (x * scale) -> rms_norm(eps) as norm
    model net {
      input x: [b, c = 8]
      y = x -> scaled(0.5, 1e-5) as first -> linear(8) as fc
      output z = y -> scaled(2.5, 1e-6) as second
    }
    """
    kernel, plain, weights = forms(text)
    check(kernel, plain, [*inputs(1, 3, 8), *weights])
    assert archlang.loads(text).net().source("triton").count("_forward(") == 1


def test_blocks_of_other_numbers_are_others() -> None:
    text = """
    block scaled(scale: float)(x: [b, c]) -> [b, c] = tanh((x -> linear(c) as fc) * scale)
    model net {
      input x: [b, c = 8]
      y = x -> scaled(0.5) as first
      output z = y -> scaled(2.5) as second
    }
    """
    kernel, plain, weights = forms(text)
    check(kernel, plain, [*inputs(1, 3, 8), *weights])


def test_what_stays_apart() -> None:
    text = """
    model net {
      input x: [b, t, c = 8]
      input i: int[b, t, c = 8]
      lone = x -> layer_norm as lone
      y = lone -> linear(8) as fc
      output z = exp(y) + i
      output u = relu(sort(x, on = c)) -> linear(4) as head
    }
    """
    assert "chain" not in archlang.loads(text).net().explain(target="triton")


def test_graphs_are_of_cuda() -> None:
    fused: Any = archlang.loads(RMS).net().module(target="triton")
    with pytest.raises(RuntimeError, match="captured from inputs on a CUDA device"):
        fused.graph(*inputs(2, 1, 2, 8))


def launch(kind: torch.dtype, c: int, form: str = "norm") -> None:
    """One of the configurations that `test_aot` compiles."""
    fused = archlang.loads(NORM if form == "norm" else SANDWICH).net(c=c).module(target="triton").to(kind)
    module: Any = sys.modules[type(fused).__module__]
    module.runs = lambda *x: True
    x = torch.empty(2, 64, c, dtype=kind, requires_grad=True)
    made = fused(x, x, x) if form == "norm" else sum(fused(x, x))
    made.sum().backward()
