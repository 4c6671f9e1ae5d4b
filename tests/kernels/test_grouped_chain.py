"""Layers of all experts at once, and the operations on single elements that follow them."""

from typing import Any

import pytest
import torch

import archlang
from tests.kernels import check, emitted

NET = """
use std.ffn: mlp
use std.moe: moe
block gated(hidden: int, slope: float)(x: [.., c]) -> [.., c] {
  gate = x -> linear(hidden) as gate -> leaky_relu(slope)
  return (gate * sigmoid(x -> linear(hidden) as up)) -> linear(c) as down
}
model net(dim: int = 8) {
  input x: [b, t, c = dim]
  y = x -> moe(mlp(ratio = 2), experts = 3) as plain
  output z = y -> moe(gated(12, 0.3), experts = 4) as gated
}
"""
SHAPES = [  # tokens, choices of each, experts, channels, units, rows of a token
    (1, 1, 1, 1, 1, 0),
    (17, 2, 4, 17, 63, 0),
    (32, 3, 5, 64, 100, 0),
    (5, 2, 3, 8, 5, 3),
]
KERNELS = {"grouped_gelu": (1, ()), "grouped_leaky_relu_sigmoid_mul": (2, (0.3,))}  # their layers and fractions


@pytest.fixture(scope="module")
def module() -> Any:
    return emitted(NET)


def inputs(layers: int, tokens: int, experts: int, c: int, units: int, inner: int = 0) -> list[torch.Tensor]:
    """Tokens, weights and biases."""
    random = torch.Generator().manual_seed(0)
    count = layers * experts
    shapes = [(tokens, *([inner] if inner else []), c), *[(units, c)] * count, *[(units,)] * count]
    return [torch.randn(shape, generator=random) for shape in shapes]


def forms(module: Any, name: str, tokens: int, count: int, experts: int) -> list[Any]:
    """The kernel and the PyTorch form as functions of the tensors; some choices are of none. Without a `count` the rows
    are sorted already.
    """
    layers, fractions = KERNELS[name]
    index = torch.rand(tokens, experts + 1, generator=torch.Generator().manual_seed(0)).argsort(1)[:, : count or 1]
    ends, order = module.sorted_choices(index, experts)

    def form(function: Any) -> Any:
        def call(x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
            parts = [given[i : i + experts] for i in range(0, len(given), experts)]
            return function(x, ends, *fractions, parts[:layers], parts[layers:], order if count else None)

        return call

    return [form(getattr(module, f)) for f in (name, f"{name}_plain")]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(("tokens", "count", "experts", "c", "units", "inner"), SHAPES)
def test_layers(module: Any, tokens: int, count: int, experts: int, c: int, units: int, inner: int, name: str) -> None:
    given = inputs(KERNELS[name][0], tokens, experts, c, units, inner)
    check(*forms(module, name, tokens, count, experts), given)


def test_rows_that_are_sorted_already(module: Any) -> None:
    name = "grouped_leaky_relu_sigmoid_mul"
    check(*forms(module, name, 63, 0, 3), inputs(2, 63, 3, 16, 24))


def test_without_biases(module: Any) -> None:
    given = inputs(1, 9, 3, 8, 5)[:4]
    check(*forms(module, "grouped_gelu", 9, 2, 3), given)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(module: Any, kind: torch.dtype) -> None:
    name = "grouped_leaky_relu_sigmoid_mul"
    check(*forms(module, name, 20, 2, 3), inputs(2, 20, 3, 16, 24), kind)


def test_nothing_is_kept_where_no_gradient_is_wanted(module: Any) -> None:
    """The kernel is told of no room, and gives the same."""
    x, *given = inputs(1, 9, 3, 8, 5)
    kernel, form = forms(module, "grouped_gelu", 9, 2, 3)
    torch.testing.assert_close(kernel(x, *given), form(x, *given))
    made = module.grouped_gelu_step(x[:, None], torch.tensor([3, 5, 9]), given[:3], given[3:], None, False)
    assert made[1].numel() == 0


def test_compilers_take_it_as_one_step(module: Any) -> None:
    kernel, form = forms(module, "grouped_gelu", 9, 2, 3)
    check(torch.compile(kernel, backend="aot_eager", fullgraph=True), form, inputs(1, 9, 3, 8, 5))


def test_operators_are_well_formed(module: Any) -> None:
    x, *given = (x.requires_grad_() for x in inputs(1, 9, 3, 8, 5))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    call = x[:, None], torch.tensor([3, 5, 9]), given[:3], given[3:], None, True
    torch.library.opcheck(module.grouped_gelu_step, call, test_utils=tests)


def test_networks_that_only_evaluate() -> None:
    """No layers of an expert are joined to one before the experts are."""
    network = archlang.loads(NET.replace("[b, t, c = dim]", "[b, t = 9, c = dim]")).net()
    assert "grouped_leaky_relu_sigmoid_mul(" in network.source("triton", purpose="inference")
    plain, fused = network.module(seed=0), network.module(seed=0, target="triton", purpose="inference")
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fused(x), plain.eval()(x))


def test_what_it_takes() -> None:
    said = archlang.loads(NET).net().explain(target="triton")
    assert said.count("hidden values written once") == 2
    hidden = "gate = x -> linear(hidden) as gate -> rms_norm(affine = false)"
    text = NET.replace("gate = x -> linear(hidden) as gate -> leaky_relu(slope)", hidden)
    assert archlang.loads(text).net().explain(target="triton").count("hidden values written once") == 1
    three = "(gate * sigmoid(x -> linear(hidden) as up) + (x -> linear(hidden) as more))"
    text = NET.replace("(gate * sigmoid(x -> linear(hidden) as up))", three)
    assert archlang.loads(text).net().explain(target="triton").count("hidden values written once") == 1


def launch(kind: torch.dtype, c: int, units: int, layers: int) -> None:
    """One of the configurations that `test_aot` compiles."""
    module = emitted(NET)
    module.runs = lambda *x: True
    name = next(name for name, (count, _) in KERNELS.items() if count == layers)
    x = torch.empty(1024, c, dtype=kind, requires_grad=True)
    weights = [[torch.empty(units, c, dtype=kind) for _ in range(2)] for _ in range(layers)]
    biases = [[torch.empty(units, dtype=kind) for _ in range(2)] for _ in range(layers)]
    ends, order = torch.tensor([800, 2048]), torch.arange(2048)
    getattr(module, name)(x, ends, *KERNELS[name][1], weights, biases, order).sum().backward()
